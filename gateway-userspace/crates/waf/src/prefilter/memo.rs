//! What a thread keeps of the values that it has screened.

use super::condition::{Loose, Question, coarse, has, insert};
use super::grams::Focus;
use crate::bytes::ByteMask;

/// Slots of a [`Memo`]; a slot taken by another key is written over.
const MEMO_SLOTS: usize = 512;
/// Kinds of values with a focus; a further one takes the place of another.
const FOCUSES: usize = 16;

/// Places in a table for keys of a number and a mask: each key has four to be in, and a newcomer takes one of them by turns.
pub(crate) struct Places {
    sets: usize,
    turn: usize,
}

impl Places {
    /// Of a table of that many slots, a multiple of four.
    pub(crate) fn new(slots: usize) -> Self {
        Self { sets: slots / 4, turn: 0 }
    }

    /// Where the key is, or the place that it takes.
    #[inline]
    pub(crate) fn find(&mut self, key: (u32, u64), is_at: impl Fn(usize) -> bool) -> (usize, bool) {
        let mixed = (key.1 ^ (key.0 as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits of the product depend on all bits of the key.
        let first = (((mixed >> 32) as usize * self.sets) >> 32) * 4;
        match (first..first + 4).find(|at| is_at(*at)) {
            Some(at) => (at, true),
            None => {
                self.turn = self.turn.wrapping_add(1);
                (first + self.turn % 4, false)
            }
        }
    }
}

/// What a thread keeps between values: survivors by byte mask, and space to fold case in. Bounded by its slots.
pub(crate) struct Memo {
    pub(super) slots: Vec<Slot>,
    places: Places,
    pub(super) folded: Vec<u8>,
    /// The literals met in the long value at hand.
    pub(super) met: Vec<u64>,
    pub(super) focuses: Vec<(usize, Focus)>,
    focus_turn: usize,
}

#[derive(Clone, Default)]
pub(super) struct Slot {
    key: (u32, u64),
    known: bool,
    /// Loose conditions that a value of this key may meet.
    pub loose: Vec<u32>,
    /// Operators that a literal may lead to in a value of this key.
    pub literal: Vec<u64>,
    /// Bytes of long values of this key so far.
    pub long_bytes: usize,
}

impl Default for Memo {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); MEMO_SLOTS],
            places: Places::new(MEMO_SLOTS),
            folded: Vec::new(),
            met: Vec::new(),
            focuses: Vec::new(),
            focus_turn: 0,
        }
    }
}

impl Memo {
    #[inline]
    pub(super) fn slot(&mut self, question: &Question, among: &[u64], mask: ByteMask) -> usize {
        let key = (question.id, coarse(mask.0));
        let (at, is_known) = {
            let slots = &self.slots;
            self.places.find(key, |at| slots[at].known && slots[at].key == key)
        };
        let slot = &mut self.slots[at];
        if !is_known {
            slot.key = key;
            slot.known = true;
            slot.long_bytes = 0;
            self.focuses.retain(|(of, _)| *of != at);
            slot.literal.clear();
            slot.literal.resize(among.len(), 0);
            for (operator, all) in &question.literal {
                if has(among, *operator) && key.1 & all == *all {
                    insert(&mut slot.literal, *operator);
                }
            }
            slot.loose.clear();
            let may_hold = |loose: &&Loose| has(among, loose.operator) && loose.may_hold(key.1);
            slot.loose.extend(question.loose.iter().filter(may_hold).map(|loose| loose.index));
        }
        at
    }

    /// Makes sure of a focus for the slot.
    pub(super) fn focus(&mut self, slot: usize, make: impl FnOnce() -> Focus) {
        if self.focuses.iter().any(|(of, _)| *of == slot) {
            return;
        }
        if self.focuses.len() < FOCUSES {
            return self.focuses.push((slot, make()));
        }
        self.focus_turn = (self.focus_turn + 1) % FOCUSES;
        let (of, focus) = &mut self.focuses[self.focus_turn];
        // The one that loses its place has to earn it again.
        self.slots[*of].long_bytes = 0;
        (*of, *focus) = (slot, make());
    }

    /// How many kinds of values have a focus.
    #[cfg(test)]
    pub(super) fn focuses(&self) -> usize {
        self.focuses.len()
    }

    /// Forgets everything: what is kept is of one screen.
    pub(crate) fn clear(&mut self) {
        self.focuses.clear();
        self.slots.iter_mut().for_each(|slot| slot.known = false);
    }
}
