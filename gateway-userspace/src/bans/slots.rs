//! A bounded map that makes room by itself.
//!
//! Attackers choose the keys, so the map must neither grow nor cost more under a flood of them.
//! When it is full, a hand that goes round looks at [`LOOK`] entries and the one of the lowest rank
//! leaves. That is O(1), needs no randomness and no order kept on each access; an entry in use has
//! a high rank and stays.

use std::collections::HashMap;
use std::hash::Hash;

/// How many entries are looked at to find the one that leaves.
pub const LOOK: usize = 16;

/// What an entry is worth; the lowest of those looked at leaves.
pub trait Rank {
    /// The greater, the longer the entry stays.
    fn rank(&self) -> u64;
}

/// A map with at most `bound` entries.
#[derive(Debug)]
pub struct Slots<K, V> {
    places: HashMap<K, usize>,
    entries: Vec<(K, V)>,
    bound: usize,
    hand: usize,
    evicted: u64,
}

impl<K: Hash + Eq + Clone, V: Rank> Slots<K, V> {
    /// An empty map; `bound` of 0 counts as 1.
    pub fn new(bound: usize) -> Self {
        Self { places: HashMap::new(), entries: Vec::new(), bound: bound.max(1), hand: 0, evicted: 0 }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries had to leave so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The entry of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.places.get(key).and_then(|at| self.entries.get(*at)).map(|(_, v)| v)
    }

    /// The entry of `key`, made by `new` where there is none; another may leave for it.
    pub fn entry(&mut self, key: &K, new: impl FnOnce() -> V) -> &mut V {
        let at = match self.places.get(key) {
            Some(at) => *at,
            None => self.insert(key.clone(), new()),
        };
        &mut self.entries[at].1
    }

    fn insert(&mut self, key: K, value: V) -> usize {
        if self.entries.len() < self.bound {
            self.places.insert(key.clone(), self.entries.len());
            self.entries.push((key, value));
            return self.entries.len() - 1;
        }
        let at = self.lowest();
        self.evicted += 1;
        self.places.insert(key.clone(), at);
        let (old, _) = std::mem::replace(&mut self.entries[at], (key, value));
        self.places.remove(&old);
        at
    }

    fn lowest(&mut self) -> usize {
        let len = self.entries.len();
        let from = self.hand;
        self.hand = (from + LOOK) % len;
        (0..LOOK.min(len)).map(|i| (from + i) % len).min_by_key(|i| self.entries[*i].1.rank()).unwrap_or(from)
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.places.remove(key)?;
        let (_, value) = self.entries.swap_remove(at);
        if let Some((moved, _)) = self.entries.get(at) {
            self.places.insert(moved.clone(), at);
        }
        if self.hand >= self.entries.len() {
            self.hand = 0;
        }
        Some(value)
    }

    /// Takes out every entry that `keep` refuses; looks at all of them.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.entries.retain(|(k, v)| keep(k, v));
        self.places = self.entries.iter().enumerate().map(|(i, (k, _))| (k.clone(), i)).collect();
        self.hand = 0;
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(k, v)| (k, v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Rank for u64 {
        fn rank(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn the_lowest_leaves_and_the_map_stays_whole() {
        let mut slots = Slots::new(4);
        for key in 0..4u32 {
            slots.entry(&key, || u64::from(key) + 10);
        }
        slots.entry(&9, || 99);
        assert_eq!(slots.get(&0), None, "the lowest left");
        assert_eq!((slots.len(), slots.evicted()), (4, 1));
        assert_eq!(slots.remove(&1), Some(11));
        assert_eq!(slots.remove(&1), None);
        for (key, expected) in [(2, Some(&12)), (3, Some(&13)), (9, Some(&99))] {
            assert_eq!(slots.get(&key), expected, "{key}");
        }
        slots.retain(|key, _| *key == 9);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(&9, &99)]);
    }

    #[test]
    fn a_flood_of_keys_does_not_push_out_what_is_in_use() {
        let mut slots = Slots::new(64);
        slots.entry(&u32::MAX, || u64::MAX);
        for key in 0..100_000u32 {
            slots.entry(&key, || 1);
        }
        assert_eq!(slots.get(&u32::MAX), Some(&u64::MAX));
        assert_eq!((slots.len(), slots.places.len()), (64, 64));
    }
}
