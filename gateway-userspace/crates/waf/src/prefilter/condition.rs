//! What a value must be like for an operator to match it: bytes that must be there or must not, and lengths.

use crate::bytes::ByteMask;

/// A set of operators by their numbers: bit `n % 64` of word `n / 64`.
pub(crate) type Bits = Box<[u64]>;

#[derive(Clone, Copy)]
pub(super) struct Condition {
    pub all: u64,
    pub none: u64,
    pub any: [u64; 4],
    pub min_len: u32,
    pub max_len: u32,
    pub operator: u32,
}

impl Condition {
    #[inline]
    pub fn holds(&self, mask: u64, len: u32) -> bool {
        mask & self.all == self.all
            && mask & self.none == 0
            && len >= self.min_len
            && len <= self.max_len
            && self.any.iter().all(|any| mask & any != 0)
    }
}

/// A loose condition with all letters on one bit, as the memo's keys have them.
#[derive(Debug)]
pub(super) struct Loose {
    pub all: u64,
    pub none: u64,
    pub any: [u64; 4],
    pub operator: u32,
    pub index: u32,
}

impl Loose {
    pub fn new(index: u32, condition: &Condition) -> Self {
        let has_all_letters = condition.none & ByteMask::LETTERS.0 == ByteMask::LETTERS.0;
        let letters = if has_all_letters { SOME_LETTER } else { 0 };
        Self {
            all: coarse(condition.all),
            none: condition.none & !(ByteMask::LETTERS.0 | ByteMask::UPPER.0) | letters,
            any: condition.any.map(coarse),
            operator: condition.operator,
            index,
        }
    }

    /// Whether some value of the coarse key meets the condition.
    #[inline]
    pub fn may_hold(&self, key: u64) -> bool {
        key & self.all == self.all && key & self.none == 0 && self.any.iter().all(|any| key & any != 0)
    }
}

/// The operators that one kind of value is asked about.
#[derive(Debug)]
pub(crate) struct Question {
    /// A number among the questions of a rule set.
    pub id: u32,
    /// Its conditions that no literal leads to.
    pub(super) loose: Vec<Loose>,
    /// The operators that literals lead to, and the bits that all such conditions of an operator ask for.
    pub(super) literal: Vec<(u32, u64)>,
}

/// Any letter, for the memo's key.
pub(super) const SOME_LETTER: u64 = 1 << 32;

/// The mask with all letters on one bit: literals tell words apart, so that keys stay few.
#[inline]
pub(super) fn coarse(mask: u64) -> u64 {
    let letters = if mask & ByteMask::LETTERS.0 != 0 { SOME_LETTER } else { 0 };
    mask & !(ByteMask::LETTERS.0 | ByteMask::UPPER.0) | letters
}

#[inline]
pub(super) fn has(bits: &[u64], number: u32) -> bool {
    bits.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
}

#[inline]
pub(crate) fn insert(bits: &mut [u64], number: u32) {
    if let Some(word) = bits.get_mut(number as usize / 64) {
        *word |= 1 << (number % 64);
    }
}
