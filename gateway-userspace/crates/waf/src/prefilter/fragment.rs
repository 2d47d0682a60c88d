//! Patterns cut into fragments, each with conditions that a value must meet for it to match.

use super::literal::{self, Cover};
use super::node::{ByteSet, Node};

/// Most fragments of one pattern's variant; beyond, alternations stay whole.
const FRAGMENTS_MAX: usize = 160;
/// Most conditions "one of these bits" that a fragment keeps.
const ANY_MAX: usize = 4;
/// The bits of letters and of upper case: every other bit tells more.
const LETTER_BITS: u64 = 0x07ff_ffff_u64 << 32;

/// Necessary conditions on a value for one way to match a pattern. Meeting them means that the operator is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Bits that must all be there.
    pub all: u64,
    /// Of each of these (but 0), one bit must be there.
    pub any: [u64; ANY_MAX],
    /// Bits that must not be there.
    pub none: u64,
    /// Shortest match.
    pub min_len: u32,
    /// Longest value, where the match has to be the whole of it.
    pub max_len: u32,
    /// One of these must occur; empty when no literal is necessary.
    pub literals: Cover,
}

impl Fragment {
    /// A fragment that any value may match.
    pub(super) fn open() -> Self {
        Self { all: 0, any: [0; ANY_MAX], none: 0, min_len: 0, max_len: u32::MAX, literals: Cover::new() }
    }
}

/// The fragments of a pattern: if it matches a value, the value meets the conditions of one of them.
pub(super) fn fragments(pattern: &Node) -> Vec<Fragment> {
    let mut found = Vec::new();
    let whole = cut(pattern);
    if whole.iter().all(|fragment| !fragment.literals.is_empty()) {
        return whole;
    }
    // Bits stand for one byte or for several; a variant asks for the bits' absence, its complement for their presence,
    // so that one of them takes any value. Without the bytes that may be anywhere, literals come out that the whole pattern does not have.
    let optional = pattern.optional_bytes();
    let (mut blanks, mut marks) = (ByteSet::default(), ByteSet::default());
    for byte in optional.iter() {
        if byte == b' ' || !byte.is_ascii_graphic() {
            blanks.insert(byte);
        } else {
            marks.insert(byte);
        }
    }
    if marks.is_empty() && blanks.is_empty() {
        return whole;
    }
    let mut variant = |absent: &ByteSet, present: u64| {
        for mut fragment in cut(&pattern.without(absent)) {
            fragment.none |= absent.mask();
            add_any(&mut fragment, present);
            if fragment.none & fragment.all == 0 {
                found.push(fragment);
            }
        }
    };
    let mut both = blanks;
    both.union(&marks);
    if marks.is_empty() {
        variant(&blanks, 0);
        variant(&marks, blanks.mask());
    } else if blanks.is_empty() {
        variant(&marks, 0);
        variant(&blanks, marks.mask());
    } else {
        variant(&both, 0);
        variant(&marks, blanks.mask());
        variant(&ByteSet::default(), marks.mask());
    }
    found
}

fn cut(pattern: &Node) -> Vec<Fragment> {
    let mut done = Vec::new();
    for sequence in sequences(pattern) {
        let fragment = conditions(&sequence);
        if let Some(fragment) = fragment
            && !done.contains(&fragment)
        {
            done.push(fragment);
        }
    }
    done
}

/// Distributes alternations: sequences of which one matches wherever the pattern does.
fn sequences(pattern: &Node) -> Vec<Vec<&Node>> {
    let mut open = vec![parts_of(pattern)];
    let mut done = Vec::new();
    while let Some(sequence) = open.pop() {
        let budget = FRAGMENTS_MAX.saturating_sub(open.len() + done.len());
        let choice = sequence.iter().enumerate().find_map(|(at, part)| match part {
            Node::Either(branches) if branches.len() <= budget => Some((at, branches)),
            _ => None,
        });
        let Some((at, branches)) = choice else {
            done.push(sequence);
            continue;
        };
        for branch in branches {
            let mut distributed = sequence[..at].to_vec();
            distributed.extend(parts_of(branch));
            distributed.extend_from_slice(&sequence[at + 1..]);
            open.push(distributed);
        }
    }
    done
}

fn parts_of(node: &Node) -> Vec<&Node> {
    match node {
        Node::Concat(parts) => parts.iter().collect(),
        Node::Empty => Vec::new(),
        other => vec![other],
    }
}

/// None when the sequence matches nothing.
fn conditions(sequence: &[&Node]) -> Option<Fragment> {
    let mut fragment = Fragment::open();
    for part in sequence {
        if !require(part, &mut fragment) {
            return None;
        }
    }
    fragment.min_len = sequence.iter().fold(0, |sum: u32, part| sum.saturating_add(part.min_len()));
    if sequence.first() == Some(&&Node::Start) && sequence.last() == Some(&&Node::End) {
        let max_len = sequence.iter().try_fold(0_u32, |sum, part| sum.checked_add(part.max_len()?));
        fragment.max_len = max_len.unwrap_or(u32::MAX);
        let mut bytes = ByteSet::default();
        sequence.iter().for_each(|part| part.bytes(&mut bytes));
        // Folded classes do not say which case a letter has.
        fragment.none |= !(bytes.mask() | crate::bytes::ByteMask::UPPER.0);
    }
    fragment.literals = literal::cover(sequence).unwrap_or_default();
    Some(fragment)
}

/// Adds what a part of the sequence demands; false when it cannot match at all.
fn require(part: &Node, fragment: &mut Fragment) -> bool {
    match part {
        Node::Never => return false,
        Node::Empty | Node::Start | Node::End => {}
        Node::Byte(set) => {
            let mask = set.mask();
            if mask.is_power_of_two() {
                fragment.all |= mask;
            } else {
                add_any(fragment, mask);
            }
        }
        Node::Concat(parts) => return parts.iter().all(|part| require(part, fragment)),
        Node::Either(parts) => {
            let mut union = Some(0);
            for part in parts {
                let mut alone = Fragment::open();
                if !require(part, &mut alone) {
                    continue;
                }
                // One necessary condition of the branch stands for it: its rarest single bit or smallest choice.
                let choices = alone.any.into_iter().filter(|mask| *mask != 0);
                let rare = alone.all & !LETTER_BITS;
                let single =
                    if rare != 0 { rare & rare.wrapping_neg() } else { alone.all & alone.all.wrapping_neg() };
                let best = choices.chain((single != 0).then_some(single)).min_by_key(|mask| weight(*mask));
                union = union.zip(best).map(|(union, best)| union | best);
            }
            match union {
                Some(0) => return false,
                Some(mask) => add_any(fragment, mask),
                None => {}
            }
        }
        Node::Repeat { min, node, .. } => {
            if *min > 0 {
                return require(node, fragment);
            }
        }
    }
    true
}

/// How little a condition tells.
fn weight(mask: u64) -> u32 {
    let letters = (mask & LETTER_BITS).count_ones();
    (mask & !LETTER_BITS).count_ones() + letters * 4
}

/// Keeps the condition, in the place of a weaker one if there is no room.
fn add_any(fragment: &mut Fragment, mask: u64) {
    if mask == 0 || mask == u64::MAX || mask & fragment.all != 0 || fragment.any.contains(&mask) {
        return;
    }
    let key = |mask: u64| if mask == 0 { u32::MAX } else { weight(mask) };
    if let Some(weakest) = fragment.any.iter_mut().max_by_key(|known| key(**known))
        && key(*weakest) > key(mask)
    {
        *weakest = mask;
    }
}
