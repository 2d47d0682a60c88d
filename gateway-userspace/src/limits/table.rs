//! A table of counters with a fixed bound: sets of eight ways, as in a processor's cache.
//!
//! A key belongs to one set (the hash is keyed with a secret, so nobody can aim at a set). When all eight ways are
//! taken, the one that is out of date goes, else the one that has used the least of its limit, so that a flood
//! of new keys pushes out each other and not those who are near or over theirs. Nothing is ever rehashed or swept as
//! a whole: entries past their time are overwritten where they lie, and [`Table::sweep`] frees sets a few at a time.
//! The memory of a set is taken when its first key comes.

use parking_lot::Mutex;

/// Ways in a set.
const WAYS: usize = 8;
/// Locks of a table. Each is held for one lookup.
const SHARDS: usize = 64;
/// What an allocator adds to a set, about.
const ALLOCATION_BYTES: usize = 16;

/// The hash of a limit's key: 128 bits, keyed. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl Key {
    /// A key from a hash.
    pub fn new(hash: u128) -> Self {
        Self(hash.max(1))
    }

    /// This key as one limit's: `salt` is the limit's own.
    #[must_use]
    pub fn salted(self, salt: u128) -> Self {
        Self::new(self.0 ^ salt)
    }

    /// 32 bits of the key.
    pub(super) fn fold(self) -> u32 {
        (self.0 >> 64) as u32
    }

    fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }

    fn set(self, sets: usize) -> usize {
        ((u128::from(self.0 as u64) * sets as u128) >> 64) as usize
    }

    /// Tells keys of one set apart, with 64 bits that the set's choice leaves out. Never 0.
    fn tag(self) -> u64 {
        ((self.0 >> 64) as u64).max(1)
    }
}

/// What eviction looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// How much of its limit the key has used, 0 to 255; 255 is over it.
    pub heat: u8,
    /// When the value is of no more use, in seconds since the Unix epoch.
    pub expires_s: u32,
}

/// What is searched stands first and together.
#[repr(C)]
struct Set<V> {
    /// The upper half of the keys; 0 where a way is empty. The lower half has chosen the set.
    tags: [u64; WAYS],
    expires_s: [u32; WAYS],
    heat: [u8; WAYS],
    values: [V; WAYS],
}

impl<V: Copy + Default> Set<V> {
    #[allow(clippy::unnecessary_box_returns, reason = "sets only ever live on the heap")]
    fn empty() -> Box<Self> {
        Box::new(Self {
            tags: [0; WAYS],
            expires_s: [0; WAYS],
            heat: [0; WAYS],
            values: [V::default(); WAYS],
        })
    }

    fn find(&self, key: Key) -> Option<usize> {
        let tag = key.tag();
        self.tags.iter().position(|t| *t == tag)
    }

    /// The way to overwrite: an empty one, one past its time, else the least used, the soonest to expire.
    fn victim(&self, now_s: u32) -> (usize, bool) {
        let rank = |way: usize| {
            let live = self.tags[way] != 0 && self.expires_s[way] > now_s;
            (live, self.heat[way], self.expires_s[way])
        };
        let way = (0..WAYS).min_by_key(|way| rank(*way)).unwrap_or(0);
        (way, rank(way).0)
    }
}

struct Shard<V> {
    sets: Vec<Option<Box<Set<V>>>>,
    allocated: usize,
    entries: usize,
    evicted: u64,
}

/// Each lock on a cache line of its own.
#[repr(align(64))]
struct Padded<T>(T);

/// Counters by key, at most as many as fit the memory given.
pub struct Table<V> {
    shards: Vec<Padded<Mutex<Shard<V>>>>,
    sets_per_shard: usize,
}

/// How full a table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Occupancy {
    /// Keys held, those past their time included until they are overwritten or swept.
    pub entries: u64,
    /// Most keys that can be held.
    pub capacity: u64,
    /// Memory taken now, in bytes.
    pub bytes: u64,
    /// Keys pushed out while they still counted, since the start.
    pub evicted: u64,
}

impl<V: Copy + Default> Table<V> {
    /// Bytes that a key takes.
    pub const ENTRY_BYTES: usize =
        (size_of::<Set<V>>() + ALLOCATION_BYTES + size_of::<usize>()).div_ceil(WAYS);

    /// A table that takes at most `bytes` of memory, and at least one set a lock.
    pub fn with_memory(bytes: u64) -> Self {
        let sets = (bytes / (Self::ENTRY_BYTES * WAYS) as u64) as usize;
        let sets_per_shard = (sets / SHARDS).max(1);
        let shard = || Shard {
            sets: std::iter::repeat_with(|| None).take(sets_per_shard).collect(),
            allocated: 0,
            entries: 0,
            evicted: 0,
        };
        let shards = std::iter::repeat_with(|| Padded(Mutex::new(shard()))).take(SHARDS).collect();
        Self { shards, sets_per_shard }
    }

    /// Runs `change` on the value of `key`, made from nothing if it is not there, and keeps the mark it gives.
    pub fn update<R>(&self, key: Key, now_s: u32, change: impl FnOnce(&mut V) -> (R, Mark)) -> R {
        let mut guard = self.shards[key.shard()].0.lock();
        let shard = &mut *guard;
        let place = &mut shard.sets[key.set(self.sets_per_shard)];
        let set = place.get_or_insert_with(|| {
            shard.allocated += 1;
            Set::empty()
        });
        let way = set.find(key).unwrap_or_else(|| {
            let (way, live) = set.victim(now_s);
            shard.evicted += u64::from(live);
            shard.entries += usize::from(set.tags[way] == 0);
            set.tags[way] = key.tag();
            set.values[way] = V::default();
            way
        });
        let (result, mark) = change(&mut set.values[way]);
        set.expires_s[way] = mark.expires_s;
        set.heat[way] = mark.heat;
        result
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: Key) -> Option<V> {
        let shard = self.shards[key.shard()].0.lock();
        let set = shard.sets[key.set(self.sets_per_shard)].as_ref()?;
        set.find(key).map(|way| set.values[way])
    }

    /// Forgets `key`; tells whether it was there.
    pub fn remove(&self, key: Key) -> bool {
        let mut shard = self.shards[key.shard()].0.lock();
        let Some(set) = shard.sets[key.set(self.sets_per_shard)].as_mut() else { return false };
        let Some(way) = set.find(key) else { return false };
        set.tags[way] = 0;
        set.heat[way] = 0;
        shard.entries -= 1;
        true
    }

    /// Frees the memory of sets that hold nothing any more: looks at `sets` of them from `from` on and gives where
    /// to go on. Each lock is held for one set at a time.
    pub fn sweep(&self, now_s: u32, from: usize, sets: usize) -> usize {
        let total = self.sets_per_shard * SHARDS;
        for index in from..from.saturating_add(sets.min(total)) {
            let index = index % total;
            let mut shard = self.shards[index % SHARDS].0.lock();
            let place = index / SHARDS;
            let Some(set) = shard.sets[place].as_ref() else { continue };
            let live = (0..WAYS).any(|way| set.tags[way] != 0 && set.expires_s[way] > now_s);
            if !live {
                let held = set.tags.iter().filter(|tag| **tag != 0).count();
                shard.sets[place] = None;
                shard.allocated -= 1;
                shard.entries -= held;
            }
        }
        from.saturating_add(sets) % total
    }

    /// How full the table is.
    pub fn occupancy(&self) -> Occupancy {
        let empty = (SHARDS * self.sets_per_shard * size_of::<usize>()) as u64;
        let mut sum = Occupancy {
            capacity: (SHARDS * self.sets_per_shard * WAYS) as u64,
            bytes: empty,
            ..Default::default()
        };
        for shard in &self.shards {
            let shard = shard.0.lock();
            sum.entries += shard.entries as u64;
            sum.bytes += (shard.allocated * (size_of::<Set<V>>() + ALLOCATION_BYTES)) as u64;
            sum.evicted += shard.evicted;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        let mixed = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Key::new(mixed ^ (mixed >> 61))
    }

    fn add(table: &Table<u32>, n: u64, heat: u8, expires_s: u32) -> u32 {
        table.update(key(n), 100, |v| {
            *v += 1;
            (*v, Mark { heat, expires_s })
        })
    }

    #[test]
    fn a_flood_evicts_itself() {
        let table = Table::<u32>::with_memory(1 << 20);
        let capacity = table.occupancy().capacity;
        for hot in 0..200 {
            add(&table, hot, 200, 1_000);
        }
        for cold in 0..capacity * 20 {
            add(&table, 1_000_000 + cold, 1, 2_000);
        }
        for hot in 0..200 {
            assert_eq!(add(&table, hot, 200, 1_000), 2, "{hot} was forgotten");
        }
        let full = table.occupancy();
        assert!(full.bytes <= 1 << 20, "{full:?}");
        assert!(full.entries <= capacity && full.evicted > capacity * 18, "{full:?}");
    }

    #[test]
    fn what_is_past_its_time_goes_first_and_memory_comes_back() {
        let table = Table::<u32>::with_memory(1 << 20);
        let capacity = table.occupancy().capacity;
        for old in 0..capacity {
            add(&table, old, 255, 100);
        }
        for new in 0..capacity / 4 {
            add(&table, 1 << 40 | new, 0, 300);
        }
        assert_eq!(table.occupancy().evicted, 0, "live keys were pushed out by nobody");
        assert_eq!(add(&table, 1 << 40, 0, 300), 2);
        let mut at = 0;
        for _ in 0..1_000 {
            at = table.sweep(400, at, capacity as usize / WAYS / 100);
        }
        assert_eq!((table.occupancy().entries, add(&table, 1 << 40, 0, 300)), (0, 1));
        assert!(
            table.remove(key(1 << 40)) && !table.remove(key(1 << 40)) && table.get(key(1 << 40)).is_none()
        );
    }
}
