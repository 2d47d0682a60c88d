//! The default store: sharded, bounded, in memory.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use super::{Change, CollectionId, CollectionKind, CollectionStore, KEY_MAX_BYTES};

/// Most variables of one record; a further one is not kept.
pub const VARIABLES_MAX: usize = 64;
/// Longest value of a variable, bytes; a longer one is cut.
pub const VALUE_MAX_BYTES: usize = 4096;

const SHARDS: usize = 64;
const NANOS: u64 = 1_000_000_000;

/// Persistent collections in memory. At `records_max` a new record takes the place of the one of its shard that was
/// changed the longest ago among a sample of eight.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    records_a_shard: usize,
    hasher: RandomState,
}

type Shard = HashMap<Key, Record>;

#[derive(PartialEq, Eq, Hash, Clone)]
struct Key {
    kind: CollectionKind,
    web_app: Box<[u8]>,
    name: Box<[u8]>,
}

struct Record {
    created: u64,
    updated: u64,
    timeout_seconds: u64,
    updates: u64,
    variables: Vec<Variable>,
}

struct Variable {
    name: Box<[u8]>,
    value: Vec<u8>,
    expires: Option<u64>,
    deprecated: u64,
}

impl MemoryStore {
    /// A store of at most about `records_max` records (rounded up to a multiple of 64).
    pub fn new(records_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            records_a_shard: records_max.div_ceil(SHARDS).max(1),
            hasher: RandomState::new(),
        }
    }

    /// Records held, those whose time is over included until their place is needed.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<R>(&self, id: CollectionId<'_>, run: impl FnOnce(&mut Shard, Key) -> R) -> R {
        let key = &id.key[..id.key.len().min(KEY_MAX_BYTES)];
        let key = Key { kind: id.kind, web_app: id.web_app.into(), name: key.into() };
        let shard = self.hasher.hash_one(&key) as usize % SHARDS;
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut shard, key)
    }
}

impl Record {
    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.updated) > self.timeout_seconds.saturating_mul(NANOS)
    }

    fn drop_expired(&mut self, now: u64) {
        self.variables.retain(|v| v.expires.is_none_or(|at| at > now));
    }

    fn apply(&mut self, name: &[u8], change: Change<'_>, now: u64) -> Option<&[u8]> {
        self.drop_expired(now);
        let at = self.variables.iter().position(|v| *v.name == *name);
        if matches!(change, Change::Remove) {
            if let Some(at) = at {
                self.variables.remove(at);
            }
            return None;
        }
        let at = match at {
            Some(at) => at,
            None if matches!(change, Change::Set(_) | Change::Add(_))
                && self.variables.len() < VARIABLES_MAX =>
            {
                self.variables.push(Variable {
                    name: name.into(),
                    value: Vec::new(),
                    expires: None,
                    deprecated: now,
                });
                self.variables.len() - 1
            }
            None => return None,
        };
        let variable = self.variables.get_mut(at)?;
        match change {
            Change::Set(value) => variable.value = value[..value.len().min(VALUE_MAX_BYTES)].to_vec(),
            Change::Add(delta) => {
                let sum = number(&variable.value).saturating_add(delta);
                variable.value = sum.to_string().into_bytes();
            }
            Change::ExpireAfter(seconds) => {
                variable.expires = Some(now.saturating_add(seconds.saturating_mul(NANOS)));
            }
            Change::Deprecate { amount, period } => variable.deprecate(amount, period, now),
            Change::Remove => {}
        }
        Some(&variable.value)
    }
}

impl Variable {
    fn deprecate(&mut self, amount: u64, period: u64, now: u64) {
        let period = period.max(1).saturating_mul(NANOS);
        let periods = now.saturating_sub(self.deprecated) / period;
        if periods == 0 {
            return;
        }
        self.deprecated = self.deprecated.saturating_add(periods.saturating_mul(period));
        let less = i64::try_from(amount.saturating_mul(periods)).unwrap_or(i64::MAX);
        let value = number(&self.value);
        self.value = value.saturating_sub(less).max(value.min(0)).to_string().into_bytes();
    }
}

impl CollectionStore for MemoryStore {
    fn open(
        &self,
        id: CollectionId<'_>,
        timeout_seconds: u64,
        unix_nanos: u64,
        sink: &mut dyn FnMut(&[u8], &[u8]),
    ) {
        self.with(id, |shard, key| {
            if shard.get(&key).is_some_and(|r| r.is_over(unix_nanos)) {
                shard.remove(&key);
            }
            let is_new = !shard.contains_key(&key);
            if is_new && shard.len() >= self.records_a_shard {
                let oldest = shard.iter().take(8).min_by_key(|(_, r)| r.updated).map(|(k, _)| k.clone());
                oldest.map(|k| shard.remove(&k));
            }
            let record = shard.entry(key).or_insert_with(|| Record {
                created: unix_nanos,
                updated: unix_nanos,
                timeout_seconds,
                updates: 0,
                variables: Vec::new(),
            });
            record.timeout_seconds = timeout_seconds;
            record.drop_expired(unix_nanos);
            let age_minutes = unix_nanos.saturating_sub(record.created) / (60 * NANOS);
            let mut say = |name: &[u8], value: u64| sink(name, value.to_string().as_bytes());
            say(b"create_time", record.created / NANOS);
            say(b"is_new", u64::from(is_new));
            say(b"last_update_time", record.updated / NANOS);
            say(b"timeout", timeout_seconds);
            say(b"update_counter", record.updates);
            say(b"update_rate", record.updates / age_minutes.max(1));
            sink(b"key", id.key);
            for variable in &record.variables {
                sink(&variable.name, &variable.value);
            }
        });
    }

    fn change(
        &self,
        id: CollectionId<'_>,
        name: &[u8],
        change: Change<'_>,
        unix_nanos: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) {
        self.with(id, |shard, key| {
            let Some(record) = shard.get_mut(&key) else { return };
            record.updated = unix_nanos;
            record.updates = record.updates.saturating_add(1);
            if let Some(value) = record.apply(name, change, unix_nanos) {
                sink(value);
            }
        });
    }
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).ok().and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(changes: &[(u64, &str, Change<'_>)], at: u64, name: &str, expected: Option<&str>) {
        let store = MemoryStore::new(1000);
        let id = CollectionId { kind: CollectionKind::Ip, web_app: b"", key: b"192.0.2.1" };
        store.open(id, 3600, 0, &mut |_, _| {});
        for (at, name, change) in changes {
            store.change(id, name.as_bytes(), *change, at * NANOS, &mut |_| {});
        }
        let mut found = None;
        store.open(id, 3600, at * NANOS, &mut |n, v| {
            if n == name.as_bytes() {
                found = Some(String::from_utf8_lossy(v).into_owned());
            }
        });
        assert_eq!(found.as_deref(), expected, "{changes:?}");
    }

    #[test]
    fn changes() {
        use Change::{Add, Deprecate, ExpireAfter, Remove, Set};
        check(&[(1, "a", Set(b"x"))], 2, "a", Some("x"));
        check(&[(1, "a", Add(3)), (1, "a", Add(4))], 2, "a", Some("7"));
        check(&[(1, "a", Set(b"x")), (1, "a", Remove)], 2, "a", None);
        check(&[(1, "a", Set(b"x")), (1, "a", ExpireAfter(5))], 5, "a", Some("x"));
        check(&[(1, "a", Set(b"x")), (1, "a", ExpireAfter(5))], 7, "a", None);
        check(&[(0, "a", Set(b"10")), (30, "a", Deprecate { amount: 2, period: 10 })], 30, "a", Some("4"));
        check(
            &[(0, "a", Set(b"10")), (3000, "a", Deprecate { amount: 2, period: 10 })],
            3000,
            "a",
            Some("0"),
        );
        check(&[(0, "a", Set(b"10")), (9, "a", Deprecate { amount: 2, period: 10 })], 9, "a", Some("10"));
        check(&[(1, "a", Set(b"x"))], 4000, "a", None);
        check(&[(1, "a", Set(b"x")), (2, "b", Add(1))], 3, "update_counter", Some("2"));
        check(&[(1, "a", Set(b"x"))], 3, "is_new", Some("0"));
        check(&[], 4000, "is_new", Some("1"));
    }

    #[test]
    fn records_are_bounded() {
        let store = MemoryStore::new(64);
        for n in 0..10_000_u32 {
            let key = n.to_be_bytes();
            let id = CollectionId { kind: CollectionKind::Ip, web_app: b"", key: &key };
            store.open(id, 3600, n as u64, &mut |_, _| {});
        }
        assert!(store.len() <= 64, "{}", store.len());
    }
}
