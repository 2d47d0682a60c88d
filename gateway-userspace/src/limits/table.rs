//! A table of counters with a fixed bound.
//!
//! Two layers, each as small as it can be, since a table of a million keys is read from memory and not from a cache.
//! Buckets of eight ways, one cache line each, say where a key's entry lies (a key belongs to one bucket; the hash is keyed with a secret,
//! so nobody can aim at one). Entries lie close together in the order in which their keys came, so that few keys touch
//! little memory and the memory of a table grows with its use.
//!
//! When there is no room, of the entries looked at the one that is past its time goes, else the one that has used the
//! least of its limit, so that a flood of new keys pushes out each other and not those who are near or over theirs.
//! Nothing is ever rehashed or swept as a whole: [`Table::sweep`] frees entries a few buckets at a time.

use parking_lot::Mutex;

/// Ways of a bucket: a cache line.
const WAYS: usize = 8;
/// Locks of a table. Each is held for one lookup.
const SHARDS: usize = 64;
/// Entries that memory is taken for at a time.
const CHUNK: usize = 256;
/// Ways for two entries: so many more that buckets are seldom full while there is room for entries.
const WAYS_FOR_TWO: usize = 3;
/// Buckets looked at for somebody to push out, until a bucket's worth of entries was seen.
const MOST_SEARCHED: usize = 16;
/// Of the memory given, what an allocator and the lists of chunks may take: one part in so many.
const RESERVED: u64 = 50;

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

    fn bucket(self, buckets: usize) -> usize {
        ((u128::from(self.0 as u64) * buckets as u128) >> 64) as usize
    }

    /// What a way says of a key, and what its entry adds: 48 bits besides those that chose the bucket.
    fn tags(self) -> (u32, u16) {
        ((self.0 >> 96) as u32, (self.0 >> 64) as u16)
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

/// A value with what belongs to it.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
struct Entry<V> {
    value: V,
    /// Of a free entry: the next free one, as a way names it.
    expires_s: u32,
    tag: u16,
    heat: u8,
}

/// A part of the table under a lock of its own.
struct Shard<V> {
    /// Buckets of eight ways each from `first` on, where a cache line begins. A way has the key's tag in its upper half and in its lower
    /// half one more than the entry's index; 0 is an empty way.
    ways: Vec<u64>,
    first: usize,
    chunks: Vec<Vec<Entry<V>>>,
    /// Entries that there may be.
    room: usize,
    /// Entries that were ever taken; those after it have no memory yet.
    taken: usize,
    /// A free entry among those, as a way names it; 0: none.
    free: u32,
    entries: usize,
    evicted: u64,
    /// The bucket where somebody to push out is looked for next.
    hand: usize,
}

impl<V: Copy + Default> Shard<V> {
    fn new(buckets: usize, room: usize) -> Self {
        // Zeroed memory is not touched before it is used.
        let ways = vec![0_u64; (buckets + 1) * WAYS];
        let first = ways.as_ptr().align_offset(64).min(WAYS);
        Self { ways, first, chunks: Vec::new(), room, taken: 0, free: 0, entries: 0, evicted: 0, hand: 0 }
    }

    fn bucket(&mut self, bucket: usize) -> &mut [u64] {
        let at = self.first + bucket * WAYS;
        &mut self.ways[at..at + WAYS]
    }

    fn entry(&mut self, named: u32) -> &mut Entry<V> {
        let index = named as usize - 1;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    /// The way of a key in its bucket, and the name of its entry.
    fn find(&mut self, bucket: usize, key: Key) -> Option<(usize, u32)> {
        let (tag, more) = key.tags();
        for way in 0..WAYS {
            let word = self.ways[self.first + bucket * WAYS + way];
            let named = word as u32;
            if (word >> 32) as u32 == tag && named != 0 && self.entry(named).tag == more {
                return Some((way, named));
            }
        }
        None
    }

    /// Makes a place for a key that is not there.
    fn insert(&mut self, bucket: usize, buckets: usize, key: Key, now_s: u32) -> u32 {
        let (tag, more) = key.tags();
        let way = self.bucket(bucket).iter().position(|word| *word == 0).unwrap_or_else(|| {
            let way = (0..WAYS).min_by_key(|way| self.rank(bucket, *way, now_s)).unwrap_or(0);
            self.push_out(bucket, way, now_s);
            way
        });
        let named = self.vacancy().unwrap_or_else(|| {
            self.search(buckets, now_s);
            self.vacancy().unwrap_or(1)
        });
        self.bucket(bucket)[way] = u64::from(tag) << 32 | u64::from(named);
        *self.entry(named) = Entry { value: V::default(), expires_s: 0, tag: more, heat: 0 };
        self.entries += 1;
        named
    }

    /// An entry without a key.
    fn vacancy(&mut self) -> Option<u32> {
        if self.free != 0 {
            let named = self.free;
            self.free = self.entry(named).expires_s;
            return Some(named);
        }
        if self.taken == self.room {
            return None;
        }
        if self.taken == self.chunks.len() * CHUNK {
            self.chunks.push(Vec::with_capacity(CHUNK.min(self.room - self.taken)));
        }
        self.chunks.last_mut()?.push(Entry::default());
        self.taken += 1;
        u32::try_from(self.taken).ok()
    }

    /// Who goes first: who is past its time, then who has used the least, then who expires the soonest.
    fn rank(&mut self, bucket: usize, way: usize, now_s: u32) -> (bool, u8, u32) {
        let named = self.bucket(bucket)[way] as u32;
        let entry = self.entry(named);
        (entry.expires_s > now_s, entry.heat, entry.expires_s)
    }

    /// Pushes somebody out, from where the hand stands.
    fn search(&mut self, buckets: usize, now_s: u32) {
        let mut best: Option<((bool, u8, u32), usize, usize)> = None;
        let mut seen = 0;
        for step in 0..buckets {
            if seen >= WAYS || (seen > 0 && step >= MOST_SEARCHED) {
                break;
            }
            let bucket = self.hand;
            self.hand = (self.hand + 1) % buckets;
            for way in 0..WAYS {
                if self.bucket(bucket)[way] != 0 {
                    seen += 1;
                    let rank = self.rank(bucket, way, now_s);
                    if best.is_none_or(|(least, ..)| rank < least) {
                        best = Some((rank, bucket, way));
                    }
                }
            }
        }
        if let Some((_, bucket, way)) = best {
            self.push_out(bucket, way, now_s);
        }
    }

    fn push_out(&mut self, bucket: usize, way: usize, now_s: u32) {
        let named = self.bucket(bucket)[way] as u32;
        self.evicted += u64::from(self.entry(named).expires_s > now_s);
        self.clear(bucket, way);
    }

    fn clear(&mut self, bucket: usize, way: usize) {
        let named = self.bucket(bucket)[way] as u32;
        self.bucket(bucket)[way] = 0;
        let free = self.free;
        self.entry(named).expires_s = free;
        self.free = named;
        self.entries -= 1;
    }

    fn bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::capacity);
        let entries = self.chunks.len().saturating_sub(1) * CHUNK + last;
        self.ways.len() * size_of::<u64>() + entries * size_of::<Entry<V>>()
    }
}

/// Each lock on a cache line of its own.
#[repr(align(64))]
struct Padded<T>(T);

/// Counters by key, at most as many as fit the memory given.
pub struct Table<V> {
    shards: Vec<Padded<Mutex<Shard<V>>>>,
    /// Buckets of a shard.
    buckets: usize,
    /// Entries of a shard.
    room: usize,
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
        let room = (bytes / (Self::ENTRY_BYTES * SHARDS) as u64) as usize;
        // A way names an entry in 32 bits.
        let room = room.clamp(WAYS, u32::MAX as usize - 1);
        let buckets = (room * WAYS_FOR_TWO / 2).div_ceil(WAYS);
        let shard = || Padded(Mutex::new(Shard::new(buckets, room)));
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), buckets, room }
    }

    /// Runs `change` on the value of `key`, made from nothing if it is not there, and keeps the mark it gives.
    pub fn update<R>(&self, key: Key, now_s: u32, change: impl FnOnce(&mut V) -> (R, Mark)) -> R {
        let mut shard = self.shards[key.shard()].0.lock();
        let bucket = key.bucket(self.buckets);
        let named = match shard.find(bucket, key) {
            Some((_, named)) => named,
            None => shard.insert(bucket, self.buckets, key, now_s),
        };
        let entry = shard.entry(named);
        let (result, mark) = change(&mut entry.value);
        entry.expires_s = mark.expires_s;
        entry.heat = mark.heat;
        result
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: Key) -> Option<V> {
        let mut shard = self.shards[key.shard()].0.lock();
        let (_, named) = shard.find(key.bucket(self.buckets), key)?;
        Some(shard.entry(named).value)
    }

    /// Forgets `key`; tells whether it was there.
    pub fn remove(&self, key: Key) -> bool {
        let mut shard = self.shards[key.shard()].0.lock();
        let bucket = key.bucket(self.buckets);
        let Some((way, _)) = shard.find(bucket, key) else { return false };
        shard.clear(bucket, way);
        true
    }

    /// Buckets of the whole table: what [`Table::sweep`] goes through.
    pub fn buckets(&self) -> usize {
        self.buckets * SHARDS
    }

    /// Frees entries that are past their time: looks at `count` buckets from `from` on and gives where to go on. Each
    /// lock is held for one bucket at a time. The memory of a shard without any key is given back.
    pub fn sweep(&self, now_s: u32, from: usize, count: usize) -> usize {
        let total = self.buckets();
        for index in from..from.saturating_add(count.min(total)) {
            let index = index % total;
            let (mut shard, bucket) = (self.shards[index % SHARDS].0.lock(), index / SHARDS);
            for way in 0..WAYS {
                if shard.bucket(bucket)[way] != 0 && !shard.rank(bucket, way, now_s).0 {
                    shard.clear(bucket, way);
                }
            }
            if shard.entries == 0 && shard.taken > 0 {
                (shard.chunks, shard.taken, shard.free) = (Vec::new(), 0, 0);
            }
        }
        from.saturating_add(count) % total
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        let mut sum = Occupancy { capacity: (SHARDS * self.room) as u64, ..Occupancy::default() };
        for shard in &self.shards {
            let shard = shard.0.lock();
            sum.entries += shard.entries as u64;
            sum.bytes += shard.bytes() as u64;
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
            at = table.sweep(400, at, table.buckets() / 100 + 1);
        }
        assert_eq!((table.occupancy().entries, add(&table, 1 << 40, 0, 300)), (0, 1));
        assert!(
            table.remove(key(1 << 40)) && !table.remove(key(1 << 40)) && table.get(key(1 << 40)).is_none()
        );
    }
}
