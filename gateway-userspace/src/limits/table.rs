//! A table of counters with a fixed bound.
//!
//! Two layers, each as small as it can be, since a table of a million keys is read from memory and not from a cache.
//! Buckets of eight ways, one cache line each, say where a key's entry lies (a key belongs to one bucket; the hash is keyed with a secret,
//! so nobody can aim at one). Entries lie close together in the order in which their keys came, so that few keys touch
//! little memory and the memory of a table grows with its use.
//!
//! Keys that differ in their salt alone, which are one client's in several limits, share a lock ([`Row`]): several limits of a
//! client are decided under one, and their entries lie beside each other.
//!
//! When there is no room, of the entries looked at the one that is past its time goes, else the one that has used the
//! least of its limit, so that a flood of new keys pushes out each other and not those who are near or over theirs.
//! Nothing is ever swept as a whole: [`Table::sweep`] frees entries a few buckets at a time, and the buckets of one lock
//! are doubled while it has few keys, at most [`MAX_ROOM`] / 2 of them at a time.

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use shard::{Entry, Shard, Size, WAYS};

mod shard;

/// Fewest locks of a table. Each is held for one client's lookups.
const MIN_SHARDS: usize = 64;
/// Most entries under one lock: what bounds the time in which its buckets are doubled.
pub const MAX_ROOM: usize = 1 << 15;
/// Buckets that a lock's part begins with, to twice as many.
const FIRST_BUCKETS: usize = 32;
/// Ways for two entries: so many more that buckets are seldom full while there is room for entries.
const WAYS_FOR_TWO: usize = 3;
/// Keys that are looked for together without taking memory for it.
pub const AT_ONCE: usize = 4;
/// Of the memory given, what an allocator and the lists of chunks may take: one part in so many.
const RESERVED: u64 = 25;

/// The hash of a limit's key: 128 bits, keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Chooses the lock by its low bits, and the bucket by its 24 highest.
    place: u64,
    /// Tells keys of a bucket apart.
    tag: u64,
}

/// The bits of a place that a salt changes: those that choose the bucket.
const SALTED: u64 = !0 << 40;

impl Key {
    /// A key from a hash.
    pub fn new(hash: u128) -> Self {
        Self::of(hash as u64, (hash >> 64) as u64)
    }

    /// A key from the two halves of a hash.
    #[inline]
    pub(super) fn of(place: u64, tag: u64) -> Self {
        Self { place, tag }
    }

    /// This key as one limit's: `salt` is the limit's own. It stays in its row.
    #[must_use]
    pub fn salted(self, salt: u128) -> Self {
        Self { place: self.place ^ (salt as u64 & SALTED), tag: self.tag ^ (salt >> 64) as u64 }
    }

    /// 32 bits of the key.
    pub(super) fn fold(self) -> u32 {
        self.tag as u32
    }

    /// What a way says of a key: the 24 bits that choose its bucket, and as many others.
    #[inline]
    fn way_tag(self) -> WayTag {
        WayTag {
            first: (self.place >> 40 << 8) as u32 | (self.tag >> 56) as u32,
            rest: (self.tag >> 40) as u16,
        }
    }

    /// All of it.
    #[cfg(test)]
    pub(super) fn parts(self) -> [u64; 2] {
        [self.place, self.tag]
    }

    /// What its entry says besides.
    #[inline]
    fn entry_tag(self) -> u16 {
        self.tag as u16
    }
}

/// What a way says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WayTag {
    /// The bits that choose the bucket are the upper 24 of it.
    first: u32,
    rest: u16,
}

/// What eviction looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// How much of its limit the key has used, 0 to 255; 255 is over it.
    pub heat: u8,
    /// When the value is of no more use, in seconds since the Unix epoch.
    pub expires_s: u32,
}

/// Each lock on cache lines of its own.
#[repr(align(128))]
struct Padded<T>(T);

/// Counters by key, at most as many as fit the memory given.
pub struct Table<V> {
    /// A power of two of them.
    shards: Vec<Padded<Mutex<Shard<V>>>>,
    size: Size,
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
    /// Bytes that a key takes in a full table.
    pub const ENTRY_BYTES: usize = size_of::<Entry<V>>() + size_of::<u64>() * WAYS_FOR_TWO / 2;

    /// A table that takes at most `bytes` of memory, and room for at least eight keys a lock.
    pub fn with_memory(bytes: u64) -> Self {
        let bytes = bytes - bytes / RESERVED;
        let entries = (bytes / Self::ENTRY_BYTES as u64) as usize;
        let shards = (entries / MAX_ROOM).next_power_of_two().clamp(MIN_SHARDS, 1 << 16);
        let room = (entries / shards).clamp(WAYS, MAX_ROOM);
        let most = (room * WAYS_FOR_TWO / 2).div_ceil(WAYS);
        let doublings = (most / FIRST_BUCKETS).checked_ilog2().unwrap_or(0);
        let buckets = most >> doublings;
        let size = Size { room, buckets, most_buckets: buckets << doublings };
        let shard = || Padded(Mutex::new(Shard::new(size)));
        Self { shards: std::iter::repeat_with(shard).take(shards).collect(), size }
    }

    /// The row of a key, and of all that differ from it in their salt alone. Nobody else touches it until it is dropped.
    #[inline]
    pub fn row(&self, key: Key) -> Row<'_, V> {
        // At most 2^16 of them: no salt changes these bits.
        let shard = key.place as usize & (self.shards.len() - 1);
        Row { shard: self.shards[shard].0.lock(), place: key.place }
    }

    /// Runs `change` on the value of `key`, made from nothing if it is not there, and keeps the mark it gives.
    pub fn update<R>(&self, key: Key, now_s: u32, change: impl FnOnce(&mut V) -> (R, Mark)) -> R {
        self.row(key).update(key, now_s, change)
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: Key) -> Option<V> {
        let mut row = self.row(key);
        let (.., named) = row.shard.find(key)?;
        Some(row.shard.entry(named).value)
    }

    /// Forgets `key`; tells whether it was there.
    pub fn remove(&self, key: Key) -> bool {
        let mut row = self.row(key);
        let Some((bucket, way, _)) = row.shard.find(key) else { return false };
        row.shard.clear(bucket, way);
        true
    }

    /// Buckets of the whole table, at most: what [`Table::sweep`] goes through.
    pub fn buckets(&self) -> usize {
        self.size.most_buckets * self.shards.len()
    }

    /// Frees entries that are past their time: looks at `count` buckets from `from` on and gives where to go on. Each
    /// lock is held for one bucket at a time. The memory of a shard without any key is given back.
    pub fn sweep(&self, now_s: u32, from: usize, count: usize) -> usize {
        let (total, shards) = (self.buckets(), self.shards.len());
        for index in from..from.saturating_add(count.min(total)) {
            let index = index % total;
            let (mut shard, bucket) = (self.shards[index % shards].0.lock(), index / shards);
            shard.sweep(bucket, now_s, self.size);
        }
        from.saturating_add(count) % total
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        let mut sum =
            Occupancy { capacity: (self.shards.len() * self.size.room) as u64, ..Occupancy::default() };
        for shard in &self.shards {
            let shard = shard.0.lock();
            sum.entries += shard.entries as u64;
            sum.bytes += shard.bytes() as u64;
            sum.evicted += shard.evicted;
        }
        sum
    }
}

/// Where a key's entry lies.
#[derive(Debug, Clone, Copy)]
pub struct Place(u16);

/// The keys of one client, locked.
pub struct Row<'t, V> {
    shard: MutexGuard<'t, Shard<V>>,
    place: u64,
}

impl<V: Copy + Default> Row<'_, V> {
    /// Whether the key lies here.
    #[inline]
    pub fn holds(&self, key: Key) -> bool {
        (self.place ^ key.place) & !SALTED == 0
    }

    /// As [`Table::update`], for a key of this row.
    #[inline(always)]
    pub fn update<R>(&mut self, key: Key, now_s: u32, change: impl FnOnce(&mut V) -> (R, Mark)) -> R {
        debug_assert!(self.holds(key), "a key of another row");
        let shard = &mut *self.shard;
        let named = match shard.find(key) {
            Some((.., named)) => named,
            None => shard.insert(key, now_s),
        };
        self.update_at(Place(named), change)
    }

    /// Where keys of this row lie, if all of them are there. The processor so fetches their buckets all at once, and their
    /// entries: it would wait for each of them where one key is done with before the next.
    #[inline]
    pub fn places(&self, keys: &[Key]) -> Option<SmallVec<[Place; AT_ONCE]>> {
        let alike: SmallVec<[(usize, u64); AT_ONCE]> =
            keys.iter().map(|key| self.shard.alike(*key)).collect();
        let place = |(key, alike): (&Key, (usize, u64))| {
            let (.., named) = self.shard.find_among(*key, alike)?;
            Some(Place(named))
        };
        keys.iter().zip(alike).map(place).collect()
    }

    /// As [`Row::update`], for a key that was just found in this row: no other may be made before.
    #[inline(always)]
    pub fn update_at<R>(&mut self, place: Place, change: impl FnOnce(&mut V) -> (R, Mark)) -> R {
        let entry = self.shard.entry(place.0);
        let (result, mark) = change(&mut entry.value);
        entry.expires_s = mark.expires_s;
        entry.heat = mark.heat;
        result
    }
}

#[cfg(test)]
mod tests;
