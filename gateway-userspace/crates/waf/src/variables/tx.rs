//! The TX collection: keys that rules name have a slot from load on, others get one when they are first set.

use super::{
    arena::{Arena, Span},
    fold::{FoldIndex, Names, fold_hash},
    store::Value,
};

/// Most keys that no rule names (made by macros in `setvar`); a further one is not kept.
pub(crate) const DYNAMIC_KEYS_MAX: usize = 16_384;
/// Longest value of a TX variable, bytes; a longer one is cut.
pub(crate) const VALUE_MAX_BYTES: usize = 65_536;

/// The first keys are the captures 0 to 9.
pub(crate) const CAPTURES: u32 = 10;

/// TX of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Tx {
    fixed: u32,
    values: Vec<Option<Value>>,
    index: FoldIndex,
    dynamic_names: Vec<Span>,
}

impl Tx {
    /// Forgets everything; `names` are the fixed keys from now on.
    pub(crate) fn clear(&mut self, names: &Names) {
        self.fixed = names.len() as u32;
        self.values.clear();
        self.values.resize(names.len(), None);
        self.index.clear();
        self.dynamic_names.clear();
    }

    #[inline]
    pub(crate) fn get(&self, key: u32) -> Option<Value> {
        self.values.get(key as usize).copied().flatten()
    }

    /// What the value counts as.
    #[inline]
    pub(crate) fn number(&self, arena: &Arena, key: u32) -> Option<i64> {
        Some(match self.get(key)? {
            Value::Int(number) => number,
            Value::Bytes(span) => crate::operators::parse_integer(arena.get(span)),
        })
    }

    #[inline]
    pub(crate) fn set(&mut self, key: u32, value: Value) {
        if let Some(slot) = self.values.get_mut(key as usize) {
            *slot = Some(value);
        }
    }

    pub(crate) fn remove(&mut self, key: u32) {
        if let Some(slot) = self.values.get_mut(key as usize) {
            *slot = None;
        }
    }

    fn find_dynamic(&self, arena: &Arena, hash: u32, name: &[u8]) -> Option<u32> {
        let same = |n: u32| {
            self.dynamic_names.get(n as usize).is_some_and(|s| arena.get(*s).eq_ignore_ascii_case(name))
        };
        self.index.find(hash, same).map(|n| self.fixed + n)
    }

    /// The key of a name, made if there is none yet; none beyond the bound.
    pub(crate) fn key(&mut self, names: &Names, arena: &mut Arena, name: &[u8]) -> Option<u32> {
        let hash = fold_hash(names.seed(), name);
        if let Some(key) = names.find_hashed(hash, name).or_else(|| self.find_dynamic(arena, hash, name)) {
            return Some(key);
        }
        if self.dynamic_names.len() >= DYNAMIC_KEYS_MAX {
            return None;
        }
        self.dynamic_names.push(arena.data(name));
        self.values.push(None);
        Some(self.fixed + self.index.add(hash))
    }

    /// The name of a key.
    pub(crate) fn name<'a>(&self, names: &'a Names, arena: &'a Arena, key: u32) -> &'a [u8] {
        match names.get(key) {
            Some(name) => name,
            None => {
                let dynamic = self.dynamic_names.get(key.wrapping_sub(self.fixed) as usize);
                dynamic.map_or(&[], |span| arena.get(*span))
            }
        }
    }

    /// All keys there are, with a value or without.
    pub(crate) fn keys(&self) -> std::ops::Range<u32> {
        0..self.values.len() as u32
    }

    /// Those that no rule names.
    pub(crate) fn dynamic_keys(&self) -> std::ops::Range<u32> {
        self.fixed..self.values.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_and_dynamic_keys() {
        let mut names = Names::new(1);
        (b'0'..=b'9').for_each(|digit| _ = names.intern(&[digit]));
        let fixed = names.intern(b"anomaly_score");
        let (mut tx, mut arena) = (Tx::default(), Arena::default());
        tx.clear(&names);
        assert_eq!(tx.key(&names, &mut arena, b"ANOMALY_SCORE"), Some(fixed));
        let dynamic = tx.key(&names, &mut arena, b"Counter_x").unwrap_or(0);
        assert_eq!(tx.key(&names, &mut arena, b"counter_X"), Some(dynamic));
        tx.set(dynamic, Value::Int(3));
        tx.set(fixed, Value::Bytes(arena.data(b"12x")));
        assert_eq!((tx.number(&arena, dynamic), tx.number(&arena, fixed)), (Some(3), Some(12)));
        assert_eq!(tx.dynamic_keys(), dynamic..dynamic + 1);
        assert_eq!(tx.name(&names, &arena, dynamic), b"Counter_x");
        tx.remove(dynamic);
        assert_eq!(tx.get(dynamic), None);
        for n in 0..DYNAMIC_KEYS_MAX + 10 {
            tx.key(&names, &mut arena, format!("k{n}").as_bytes());
        }
        assert_eq!(tx.key(&names, &mut arena, b"one too many"), None);
    }
}
