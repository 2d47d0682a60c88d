//! All screenable operators of a rule set at once: which of them may match a value.

use std::collections::BTreeMap;

use daachorse::{DoubleArrayAhoCorasick, DoubleArrayAhoCorasickBuilder};

use super::condition::{Bits, Condition, Loose, Question, coarse, has, insert};
use super::fragment::{Fragment, fragments};
use super::grams::{Focus, Grams};
use super::literal::{LITERAL_MIN, Literal};
use super::memo::Memo;
use super::node::Node;
use crate::bytes::ByteMask;
use crate::operators::{Operator, OperatorKind};

/// Values longer than this have words that come again: each literal's conditions are tested once.
const LONG_BYTES: usize = 128;
/// Bytes of long values of one kind after which it pays to find out which literals matter for it.
const FOCUS_AFTER_BYTES: usize = 32 << 10;
/// Most literals of a screen; operators beyond it are not screened.
const LITERALS_MAX: usize = 200_000;

/// An operator to screen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screened<'a> {
    /// The operator.
    pub operator: &'a Operator,
    /// Whether its answer is turned round: then any value is a candidate.
    pub negated: bool,
}

/// The conditions of many operators, tested in one pass over a value.
pub(crate) struct Screen {
    words: usize,
    /// Operators that are always candidates.
    always: Bits,
    /// Operators that may match the empty value.
    of_empty: Bits,
    conditions: Vec<Condition>,
    /// The shortest match of each operator.
    shortest: Vec<u32>,
    /// Conditions that no literal leads to.
    loose: Vec<u32>,
    /// Operators with literals, and the bits that all their literals' conditions ask for, letters on one bit.
    common: Vec<(u32, u64)>,
    /// For each literal, where its conditions are in `postings`.
    starts: Vec<u32>,
    postings: Vec<Posting>,
    /// Both find the literals: the first is faster on usual values, the second on any.
    search: Option<(Grams, DoubleArrayAhoCorasick<u32>)>,
}

/// Where a literal leads.
#[derive(Clone, Copy)]
struct Posting {
    condition: u32,
    operator: u32,
}

/// What a value is screened for.
pub(crate) struct Asked<'a> {
    /// The kind of value.
    pub question: &'a Question,
    /// The operators that take part at all; a memo is of one such set, and cleared when it changes.
    pub among: &'a [u64],
    /// Those that are asked about this form of the value.
    pub wanted: &'a [u64],
}

impl Screen {
    /// A screen for these operators, numbered in order; a number without an operator is never a candidate.
    pub(crate) fn new(operators: &[Option<Screened<'_>>]) -> Self {
        let words = operators.len().div_ceil(64);
        let mut screen = Self {
            words,
            always: vec![0; words].into(),
            of_empty: vec![0; words].into(),
            conditions: Vec::new(),
            shortest: vec![u32::MAX; operators.len()],
            loose: Vec::new(),
            common: Vec::new(),
            starts: vec![0],
            postings: Vec::new(),
            search: None,
        };
        let mut literals: BTreeMap<Literal, Vec<u32>> = BTreeMap::new();
        for (number, operator) in operators.iter().enumerate() {
            let Some(Screened { operator, negated }) = operator else { continue };
            let is_open = *negated || literals.len() > LITERALS_MAX;
            let fragments = if is_open { None } else { fragments_of(operator) };
            match fragments {
                None => {
                    insert(&mut screen.always, number as u32);
                    screen.shortest[number] = 0;
                }
                Some(fragments) => {
                    fragments.into_iter().for_each(|f| screen.add(number as u32, f, &mut literals));
                }
            }
        }
        for postings in literals.values() {
            screen.postings.extend(postings.iter().map(|index| Posting {
                condition: *index,
                operator: screen.conditions[*index as usize].operator,
            }));
            screen.starts.push(screen.postings.len() as u32);
        }
        if !literals.is_empty() {
            screen.build(literals.into_keys().collect());
        }
        screen
    }

    fn add(&mut self, operator: u32, fragment: Fragment, literals: &mut BTreeMap<Literal, Vec<u32>>) {
        let index = self.conditions.len() as u32;
        if let Some(shortest) = self.shortest.get_mut(operator as usize) {
            *shortest = fragment.min_len.min(*shortest);
        }
        self.conditions.push(Condition {
            all: fragment.all,
            none: fragment.none,
            // An absent condition is one that always holds: one test fewer than asking which are absent. The empty
            // value is the exception; it has no bits and is treated apart.
            any: fragment.any.map(|any| if any == 0 { u64::MAX } else { any }),
            min_len: fragment.min_len,
            max_len: fragment.max_len,
            operator,
        });
        if !fragment.literals.is_empty() {
            let all = coarse(fragment.all);
            match self.common.last_mut() {
                Some((known, common)) if *known == operator => *common &= all,
                _ => self.common.push((operator, all)),
            }
        } else {
            self.loose.push(index);
            if fragment.all == 0 && fragment.any == [0; 4] && fragment.min_len == 0 {
                insert(&mut self.of_empty, operator);
            }
        }
        for literal in fragment.literals {
            let postings = literals.entry(literal).or_default();
            if postings.last() != Some(&index) {
                postings.push(index);
            }
        }
    }

    fn build(&mut self, literals: Vec<Literal>) {
        let grams = Grams::new(literals.iter().map(|literal| &**literal));
        let values = literals.into_iter().enumerate().map(|(index, literal)| (literal, index as u32));
        match DoubleArrayAhoCorasickBuilder::new().build_with_values(values) {
            Ok(automaton) => self.search = Some((grams, automaton)),
            // Beyond what the automaton can hold: ask the operators themselves.
            Err(_) => {
                self.shortest.fill(0);
                for condition in &self.conditions {
                    insert(&mut self.always, condition.operator);
                }
            }
        }
    }

    /// The fewest bytes that a value needs for one of these operators to match it.
    pub(crate) fn shortest_match(&self, wanted: &[u64]) -> usize {
        let of_wanted =
            self.shortest.iter().enumerate().filter(|(operator, _)| has(wanted, *operator as u32));
        of_wanted.map(|(_, shortest)| *shortest as usize).min().unwrap_or(usize::MAX)
    }

    /// The question about the operators of `wanted`.
    pub(crate) fn question(&self, id: u32, wanted: &[u64]) -> Question {
        let of = |index: &u32| self.conditions.get(*index as usize).is_some_and(|c| has(wanted, c.operator));
        Question {
            id,
            loose: self
                .loose
                .iter()
                .filter(|index| of(index))
                .map(|index| Loose::new(*index, &self.conditions[*index as usize]))
                .collect(),
            literal: self.common.iter().copied().filter(|(operator, _)| has(wanted, *operator)).collect(),
        }
    }

    /// Words of a result.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Adds to `found` every operator asked about that may match `value`, whose mask is `mask`; of others it may add
    /// some. `found` has [`words`](Self::words) words.
    pub(crate) fn candidates(
        &self,
        value: &[u8],
        mask: ByteMask,
        asked: &Asked<'_>,
        memo: &mut Memo,
        found: &mut [u64],
    ) {
        for (word, always) in found.iter_mut().zip(&self.always) {
            *word |= always;
        }
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        if value.is_empty() {
            for (word, empty) in found.iter_mut().zip(&self.of_empty) {
                *word |= empty;
            }
            return;
        }
        let at = memo.slot(asked.question, asked.among, mask);
        let slot = &mut memo.slots[at];
        let is_scan_due =
            slot.literal.iter().zip(asked.wanted).any(|(literal, wanted)| literal & wanted != 0);
        for index in &slot.loose {
            if let Some(condition) = self.conditions.get(*index as usize)
                && has(asked.wanted, condition.operator)
                && condition.holds(mask.0, len)
            {
                insert(found, condition.operator);
            }
        }
        if is_scan_due && value.len() >= LITERAL_MIN && self.search.is_some() {
            slot.long_bytes += if value.len() > LONG_BYTES { value.len() } else { 0 };
            self.scan(value, mask, asked, at, memo, found);
        }
    }

    fn scan(
        &self,
        value: &[u8],
        mask: ByteMask,
        asked: &Asked<'_>,
        slot: usize,
        memo: &mut Memo,
        found: &mut [u64],
    ) {
        let Some((grams, automaton)) = &self.search else { return };
        let is_long = value.len() > LONG_BYTES;
        if is_long && memo.slots[slot].long_bytes > FOCUS_AFTER_BYTES {
            memo.focus(slot, || self.focus(grams, asked, coarse(mask.0)));
        }
        let Memo { folded, met, focuses, .. } = memo;
        let focus = focuses.iter().find(|(of, _)| is_long && *of == slot).map(|(_, focus)| focus);
        if focus.is_some_and(|focus| focus.literals == 0) {
            return;
        }
        folded.clear();
        folded.extend_from_slice(value);
        if mask.intersects(ByteMask::UPPER) {
            folded.make_ascii_lowercase();
        }
        let wanted = asked.wanted;
        if is_long {
            met.clear();
            met.resize(self.starts.len().div_ceil(64), 0);
        }
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let mut meet = |literal: u32| {
            let literal = literal as usize;
            if is_long {
                let word = &mut met[literal / 64];
                if *word >> (literal % 64) & 1 == 1 {
                    return;
                }
                *word |= 1 << (literal % 64);
            }
            let (Some(from), Some(to)) = (self.starts.get(literal), self.starts.get(literal + 1)) else {
                return;
            };
            for posting in &self.postings[*from as usize..*to as usize] {
                if !has(found, posting.operator)
                    && has(wanted, posting.operator)
                    && self.conditions[posting.condition as usize].holds(mask.0, len)
                {
                    insert(found, posting.operator);
                }
            }
        };
        if let Some(focus) = focus {
            Grams::pad(folded);
            if grams.find(focus, folded, &mut meet) {
                return;
            }
        }
        automaton.find_overlapping_iter(&folded[..value.len()]).for_each(|hit| meet(hit.value()));
    }

    /// The literals that may lead to an operator asked about in values of a key.
    fn focus(&self, grams: &Grams, asked: &Asked<'_>, key: u64) -> Focus {
        let mut operators = vec![0; self.words];
        let asked_about = asked.question.literal.iter().filter(|(operator, _)| has(asked.among, *operator));
        asked_about.for_each(|(operator, _)| insert(&mut operators, *operator));
        let may_hold: Vec<bool> = self
            .conditions
            .iter()
            .map(|condition| has(&operators, condition.operator) && Loose::new(0, condition).may_hold(key))
            .collect();
        grams.focus(|literal| {
            let (from, to) = (self.starts[literal as usize], self.starts[literal as usize + 1]);
            let postings = &self.postings[from as usize..to as usize];
            postings.iter().any(|posting| may_hold[posting.condition as usize])
        })
    }

    /// Bytes that the tables take.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.search.as_ref().map_or(0, |(grams, automaton)| grams.heap_bytes() + automaton.heap_bytes())
            + self.conditions.len() * size_of::<Condition>()
            + (self.postings.len() * 2 + self.starts.len() + self.loose.len()) * 4
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("conditions", &self.conditions.len())
            .field("loose", &self.loose.len())
            .field("literals", &(self.starts.len() - 1))
            .field("heap_bytes", &self.heap_bytes())
            .finish_non_exhaustive()
    }
}

/// None when the operator may match anything.
fn fragments_of(operator: &Operator) -> Option<Vec<Fragment>> {
    if operator.argument_macro().is_some() {
        return None;
    }
    let literal = |text: &[u8]| {
        let mut fragment = Fragment::open();
        let mut mask = 0;
        for byte in text {
            mask |= ByteMask::of_byte(byte.to_ascii_lowercase()).0;
        }
        fragment.all = mask;
        fragment.min_len = text.len() as u32;
        if text.len() >= LITERAL_MIN {
            fragment.literals.push(Literal::of(&text.to_ascii_lowercase()));
        }
        fragment
    };
    let one_of = |any: u64| {
        let mut fragment = Fragment::open();
        fragment.any[0] = any;
        fragment.min_len = 1;
        vec![fragment]
    };
    Some(match operator.kind() {
        OperatorKind::Rx(pattern) | OperatorKind::RxGlobal(pattern) => {
            fragments(&Node::of(pattern.syntax()?))
        }
        OperatorKind::Pm(phrases) => phrases.phrases().iter().map(|phrase| literal(phrase)).collect(),
        OperatorKind::Contains(_)
        | OperatorKind::ContainsWord
        | OperatorKind::BeginsWith
        | OperatorKind::EndsWith
        | OperatorKind::Streq
            if !operator.argument().is_empty() =>
        {
            vec![literal(operator.argument().as_bytes())]
        }
        OperatorKind::NoMatch => Vec::new(),
        OperatorKind::DetectXss => one_of(ByteMask::of_bytes(b"<=").0),
        // A word alone is no injection: only letters, digits and underscores.
        OperatorKind::DetectSqli => one_of(
            !(ByteMask::LETTERS.0 | ByteMask::UPPER.0 | ByteMask::DIGIT.0 | ByteMask::of_bytes(b"_").0),
        ),
        OperatorKind::ValidateUrlEncoding => one_of(ByteMask::of_bytes(b"%").0),
        OperatorKind::ValidateUtf8Encoding => one_of(ByteMask::HIGH.0),
        OperatorKind::ValidateByteRange(range) => {
            let outside = (0..=255_u8).filter(|byte| range.is_violated_by(&[*byte]));
            one_of(outside.fold(0, |mask, byte| mask | ByteMask::of_byte(byte).0))
        }
        _ => return None,
    })
}
