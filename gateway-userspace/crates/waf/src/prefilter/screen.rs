//! All screenable operators of a rule set at once: which of them may match a value.

use std::collections::BTreeMap;

use daachorse::{DoubleArrayAhoCorasick, DoubleArrayAhoCorasickBuilder};
use regex_syntax::ParserBuilder;

use super::fragment::{Fragment, fragments};
use super::literal::{LITERAL_MAX, LITERAL_MIN};
use super::node::Node;
use crate::bytes::ByteMask;
use crate::operators::{Operator, OperatorKind};

/// Slots of a [`Memo`]; a slot taken by another key is written over.
const MEMO_SLOTS: usize = 512;
/// Most literals of a screen; operators beyond it are not screened.
const LITERALS_MAX: usize = 200_000;

/// A set of operators by their numbers: bit `n % 64` of word `n / 64`.
pub(crate) type Bits = Box<[u64]>;

/// The conditions of many operators, tested in one pass over a value.
pub(crate) struct Screen {
    words: usize,
    /// Operators that are always candidates.
    always: Bits,
    conditions: Vec<Condition>,
    /// Conditions that no literal leads to.
    loose: Vec<u32>,
    /// For each literal, where its conditions are in `postings`.
    starts: Vec<u32>,
    postings: Vec<u32>,
    automaton: Option<DoubleArrayAhoCorasick<u32>>,
}

#[derive(Clone, Copy)]
struct Condition {
    all: u64,
    none: u64,
    any: [u64; 4],
    min_len: u32,
    max_len: u32,
    operator: u32,
}

impl Condition {
    #[inline]
    fn holds(&self, mask: u64, len: u32) -> bool {
        mask & self.all == self.all
            && mask & self.none == 0
            && len >= self.min_len
            && len <= self.max_len
            && self.any.iter().all(|any| mask & any != 0)
    }
}

/// What a thread keeps between values: survivors by byte mask, and space to fold case in. Bounded by its slots.
pub(crate) struct Memo {
    slots: Vec<Slot>,
    folded: Vec<u8>,
}

#[derive(Clone, Default)]
struct Slot {
    key: u64,
    known: bool,
    /// Loose conditions that a value of this key may meet.
    loose: Vec<u32>,
}

impl Default for Memo {
    fn default() -> Self {
        Self { slots: vec![Slot::default(); MEMO_SLOTS], folded: Vec::new() }
    }
}

impl Screen {
    /// A screen for these operators, numbered in order; a number without an operator is never a candidate.
    pub(crate) fn new(operators: &[Option<&Operator>]) -> Self {
        let words = operators.len().div_ceil(64);
        let mut screen = Self {
            words,
            always: vec![0; words].into(),
            conditions: Vec::new(),
            loose: Vec::new(),
            starts: vec![0],
            postings: Vec::new(),
            automaton: None,
        };
        let mut literals: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
        for (number, operator) in operators.iter().enumerate() {
            let Some(operator) = operator else { continue };
            let fragments = if literals.len() > LITERALS_MAX { None } else { fragments_of(operator) };
            match fragments {
                None => insert(&mut screen.always, number as u32),
                Some(fragments) => {
                    fragments.into_iter().for_each(|f| screen.add(number as u32, f, &mut literals))
                }
            }
        }
        for postings in literals.values() {
            screen.postings.extend_from_slice(postings);
            screen.starts.push(screen.postings.len() as u32);
        }
        if !literals.is_empty() {
            screen.build(literals.into_keys().collect());
        }
        screen
    }

    fn add(&mut self, operator: u32, fragment: Fragment, literals: &mut BTreeMap<Vec<u8>, Vec<u32>>) {
        let index = self.conditions.len() as u32;
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
        if fragment.literals.is_empty() {
            self.loose.push(index);
        }
        for literal in fragment.literals {
            let postings = literals.entry(literal).or_default();
            if postings.last() != Some(&index) {
                postings.push(index);
            }
        }
    }

    fn build(&mut self, literals: Vec<Vec<u8>>) {
        let values = literals.into_iter().enumerate().map(|(index, literal)| (literal, index as u32));
        match DoubleArrayAhoCorasickBuilder::new().build_with_values(values) {
            Ok(automaton) => self.automaton = Some(automaton),
            // Beyond what the automaton can hold: ask the operators themselves.
            Err(_) => {
                for condition in &self.conditions {
                    insert(&mut self.always, condition.operator);
                }
            }
        }
    }

    /// Words of a result.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Adds to `found` every operator that may match `value`, whose mask is `mask`. An operator that is not added does
    /// not match. `found` has [`words`](Self::words) words.
    pub(crate) fn candidates(&self, value: &[u8], mask: ByteMask, memo: &mut Memo, found: &mut [u64]) {
        for (word, always) in found.iter_mut().zip(&self.always) {
            *word |= always;
        }
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        if value.is_empty() {
            self.candidates_of_empty(found);
            return;
        }
        for index in memo.loose(self, mask) {
            if let Some(condition) = self.conditions.get(*index as usize)
                && condition.holds(mask.0, len)
            {
                insert(found, condition.operator);
            }
        }
        if value.len() >= LITERAL_MIN
            && let Some(automaton) = &self.automaton
        {
            self.scan(automaton, value, mask, memo, found);
        }
    }

    fn candidates_of_empty(&self, found: &mut [u64]) {
        for index in &self.loose {
            let condition = &self.conditions[*index as usize];
            if condition.all == 0 && condition.min_len == 0 {
                insert(found, condition.operator);
            }
        }
    }

    fn scan(
        &self,
        automaton: &DoubleArrayAhoCorasick<u32>,
        value: &[u8],
        mask: ByteMask,
        memo: &mut Memo,
        found: &mut [u64],
    ) {
        let haystack = if mask.intersects(ByteMask::UPPER) {
            memo.folded.clear();
            memo.folded.extend_from_slice(value);
            memo.folded.make_ascii_lowercase();
            memo.folded.as_slice()
        } else {
            value
        };
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        for hit in automaton.find_overlapping_iter(haystack) {
            let literal = hit.value() as usize;
            let (Some(from), Some(to)) = (self.starts.get(literal), self.starts.get(literal + 1)) else {
                continue;
            };
            for index in &self.postings[*from as usize..*to as usize] {
                let condition = &self.conditions[*index as usize];
                if condition.holds(mask.0, len) {
                    insert(found, condition.operator);
                }
            }
        }
    }

    /// Bytes that the automaton takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.automaton.as_ref().map_or(0, DoubleArrayAhoCorasick::heap_bytes)
            + self.conditions.len() * size_of::<Condition>()
            + (self.postings.len() + self.starts.len() + self.loose.len()) * 4
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

/// Any letter, for the memo's key.
const SOME_LETTER: u64 = 1 << 32;

/// The mask with all letters on one bit: literals tell words apart, so that keys stay few.
fn coarse(mask: u64) -> u64 {
    let letters = if mask & ByteMask::LETTERS.0 != 0 { SOME_LETTER } else { 0 };
    mask & !(ByteMask::LETTERS.0 | ByteMask::UPPER.0) | letters
}

impl Memo {
    fn loose(&mut self, screen: &Screen, mask: ByteMask) -> &[u32] {
        let key = coarse(mask.0);
        let slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % MEMO_SLOTS;
        let slot = &mut self.slots[slot];
        if slot.key != key || !slot.known {
            slot.key = key;
            slot.known = true;
            slot.loose.clear();
            slot.loose.extend(screen.loose.iter().filter(|index| {
                screen.conditions.get(**index as usize).is_some_and(|condition| may_hold(condition, key))
            }));
        }
        &slot.loose
    }

    /// Forgets everything: what is kept is of one screen.
    pub(crate) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.known = false);
    }
}

/// Whether some value of the coarse key meets the condition.
fn may_hold(condition: &Condition, key: u64) -> bool {
    let none_letters = condition.none & ByteMask::LETTERS.0;
    let none = condition.none & !(ByteMask::LETTERS.0 | ByteMask::UPPER.0)
        | if none_letters == ByteMask::LETTERS.0 { SOME_LETTER } else { 0 };
    let all = coarse(condition.all);
    key & all == all && key & none == 0 && condition.any.iter().all(|any| key & coarse(*any) != 0)
}

pub(super) fn insert(bits: &mut [u64], number: u32) {
    if let Some(word) = bits.get_mut(number as usize / 64) {
        *word |= 1 << (number % 64);
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
            fragment.literals.push(text.iter().take(LITERAL_MAX).map(u8::to_ascii_lowercase).collect());
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
        OperatorKind::Rx(pattern) | OperatorKind::RxGlobal(pattern) if pattern.is_linear() => {
            let mut parser =
                ParserBuilder::new().unicode(false).utf8(false).dot_matches_new_line(true).build();
            fragments(&Node::of(&parser.parse(pattern.source()).ok()?))
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
