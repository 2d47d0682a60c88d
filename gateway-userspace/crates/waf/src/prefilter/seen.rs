//! Values that come again with every request of a client, and what was found about them.
//!
//! Header values and the names of headers, cookies and arguments repeat from request to request; what the rules of a
//! phase say about such a value alone is the same each time. Values of arguments, paths and bodies are not kept: they
//! are what an attacker varies.

use super::memo::Places;
use crate::variables::fold::value_hash;

/// Values remembered; a further one takes the place of another.
const SLOTS: usize = 1024;
/// Longest value remembered, bytes.
const VALUE_MAX_BYTES: usize = 512;

/// What was found, by question and value. The hash is keyed: a client cannot aim at a place.
pub(crate) struct Seen {
    slots: Vec<Slot>,
    places: Places,
}

#[derive(Clone, Default)]
struct Slot {
    key: (u32, u64),
    known: bool,
    value: Vec<u8>,
    found: Vec<u64>,
}

/// A value that was not known, and the place kept for it.
pub(crate) struct Place {
    at: usize,
    key: (u32, u64),
}

impl Default for Seen {
    fn default() -> Self {
        Self { slots: vec![Slot::default(); SLOTS], places: Places::new(SLOTS) }
    }
}

impl Seen {
    /// What was found about the value; or where to put it, unless it is too long.
    pub(crate) fn find(&mut self, question: u32, value: &[u8], seed: u64) -> Result<&[u64], Option<Place>> {
        if value.len() > VALUE_MAX_BYTES {
            return Err(None);
        }
        let key = (question, value_hash(seed, value));
        let slots = &self.slots;
        let is_it = |at: usize| slots[at].known && slots[at].key == key && slots[at].value == value;
        match self.places.find(key, is_it) {
            (at, true) => Ok(&self.slots[at].found),
            (at, false) => Err(Some(Place { at, key })),
        }
    }

    /// Keeps what was found.
    pub(crate) fn keep(&mut self, place: &Place, value: &[u8], found: &[u64]) {
        let Some(slot) = self.slots.get_mut(place.at) else { return };
        slot.key = place.key;
        slot.known = true;
        slot.value.clear();
        slot.value.extend_from_slice(value);
        slot.found.clear();
        slot.found.extend_from_slice(found);
    }

    /// Forgets everything: what is kept is of one rule set.
    pub(crate) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.known = false);
    }
}
