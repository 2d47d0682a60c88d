//! Literals that a match must have one of.

use std::ops::Deref;

use super::node::Node;

/// Most literals that stand for a fragment.
const COVER_MAX: usize = 1500;
/// Most strings of a run while it grows by classes and alternations.
const RUN_MAX: usize = 64;
/// Largest class that is spelled out.
const CLASS_MAX: u32 = 8;
/// Longest literal; what comes after is left to the operator.
pub(super) const LITERAL_MAX: usize = 16;
/// Shortest literal worth looking for: single bytes are the mask's business.
pub(super) const LITERAL_MIN: usize = 2;

/// The beginning of a string, at most [`LITERAL_MAX`] bytes, in place: the analysis of a rule set makes a million of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Literal {
    bytes: [u8; LITERAL_MAX],
    len: u8,
}

impl Literal {
    pub(super) fn of(text: &[u8]) -> Self {
        Self::default().followed_by(text)
    }

    fn followed_by(mut self, text: &[u8]) -> Self {
        let free = &mut self.bytes[usize::from(self.len)..];
        let taken = free.len().min(text.len());
        free[..taken].copy_from_slice(&text[..taken]);
        self.len += taken as u8;
        self
    }
}

impl Deref for Literal {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for Literal {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}

/// Literals of which every match has one, in lower case.
pub(super) type Cover = Vec<Literal>;

/// The best cover of a sequence, if there is one whose literals are long enough.
pub(super) fn cover(parts: &[&Node]) -> Option<Cover> {
    let mut best = None;
    let mut run = Run::new();
    for part in parts {
        run.take(part, &mut best);
    }
    run.finish(&mut best);
    best.map(|(_, cover)| cover)
}

/// The longest shortest literal first, then the fewest literals.
type Score = (usize, isize);

fn offer(best: &mut Option<(Score, Cover)>, mut cover: Cover) {
    let shortest = cover.iter().map(|literal| literal.len()).min().unwrap_or(0);
    if shortest < LITERAL_MIN {
        return;
    }
    cover.sort_unstable();
    cover.dedup();
    if cover.len() > COVER_MAX {
        return;
    }
    // Past six bytes more length selects little; fewer literals count then.
    let score = (shortest.min(6), -(cover.len() as isize));
    if best.as_ref().is_none_or(|(known, _)| score > *known) {
        *best = Some((score, cover));
    }
}

/// Strings that stand at one place of every match, growing to the right.
struct Run {
    strings: Vec<Literal>,
}

impl Run {
    fn new() -> Self {
        Self { strings: vec![Literal::default()] }
    }

    fn take(&mut self, part: &Node, best: &mut Option<(Score, Cover)>) {
        match part {
            Node::Empty | Node::Start | Node::End => {}
            Node::Concat(parts) => parts.iter().for_each(|part| self.take(part, best)),
            Node::Byte(set) if let Some(byte) = set.only() => {
                self.strings.iter_mut().for_each(|string| *string = string.followed_by(&[byte]));
            }
            Node::Repeat { min, max, node } if *min > 0 => {
                for _ in 0..(*min).min(4) {
                    self.take(node, best);
                }
                if *max != Some(*min) || *min > 4 {
                    self.finish(best);
                }
            }
            _ => match language(part, RUN_MAX) {
                Some(strings) if self.fits(&strings) => self.append(&strings),
                Some(strings) => {
                    self.finish(best);
                    self.append(&strings);
                }
                None => {
                    self.finish(best);
                    if let Node::Either(parts) = part
                        && let Some(all) = cover_of_either(parts)
                    {
                        offer(best, all);
                    }
                }
            },
        }
    }

    fn fits(&self, strings: &[Literal]) -> bool {
        self.strings.len() * strings.len() <= RUN_MAX
    }

    fn append(&mut self, strings: &[Literal]) {
        let mut longer = Vec::with_capacity(self.strings.len() * strings.len());
        for left in &self.strings {
            // A full literal stays: its continuation selects nothing more.
            if left.len() >= LITERAL_MAX {
                longer.push(*left);
                continue;
            }
            longer.extend(strings.iter().map(|right| left.followed_by(right)));
        }
        self.strings = longer;
    }

    fn finish(&mut self, best: &mut Option<(Score, Cover)>) {
        let strings = std::mem::replace(&mut self.strings, vec![Literal::default()]);
        offer(best, strings);
    }
}

fn cover_of_either(parts: &[Node]) -> Option<Cover> {
    let mut all = Cover::new();
    for part in parts {
        all.extend(cover(&[part])?);
        if all.len() > COVER_MAX {
            return None;
        }
    }
    Some(all)
}

/// All strings of a node, if they are few.
fn language(node: &Node, limit: usize) -> Option<Vec<Literal>> {
    // Counted first: most nodes have too many.
    let count = count(node).filter(|count| *count <= limit)?;
    let mut strings = Vec::with_capacity(count);
    strings.push(Literal::default());
    spell(node, &mut strings);
    Some(strings)
}

/// How many strings a node has; none where they are not to be spelled out.
fn count(node: &Node) -> Option<usize> {
    match node {
        Node::Empty | Node::Start | Node::End => Some(1),
        Node::Never => Some(0),
        Node::Byte(set) => Some(set.len()).filter(|len| *len <= CLASS_MAX).map(|len| len as usize),
        Node::Concat(parts) => {
            parts.iter().try_fold(1_usize, |product, part| product.checked_mul(count(part)?))
        }
        Node::Either(parts) => parts.iter().try_fold(0_usize, |sum, part| sum.checked_add(count(part)?)),
        Node::Repeat { min: 0, max: Some(1), node } => count(node)?.checked_add(1),
        Node::Repeat { .. } => None,
    }
}

/// Puts each string of a node that [`count`] counts behind each of `strings`.
fn spell(node: &Node, strings: &mut Vec<Literal>) {
    match node {
        Node::Empty | Node::Start | Node::End => {}
        Node::Never => strings.clear(),
        Node::Byte(set) => match set.only() {
            Some(byte) => strings.iter_mut().for_each(|string| *string = string.followed_by(&[byte])),
            None => {
                let mut longer = Vec::with_capacity(strings.len() * set.len() as usize);
                for left in &*strings {
                    longer.extend(set.iter().map(|byte| left.followed_by(&[byte])));
                }
                *strings = longer;
            }
        },
        Node::Concat(parts) => parts.iter().for_each(|part| spell(part, strings)),
        Node::Either(parts) => {
            let mut all = Vec::new();
            for part in parts {
                let mut own = strings.clone();
                spell(part, &mut own);
                all.append(&mut own);
            }
            *strings = all;
        }
        Node::Repeat { node, .. } => {
            let mut with = strings.clone();
            spell(node, &mut with);
            strings.append(&mut with);
        }
    }
}
