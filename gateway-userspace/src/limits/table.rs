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

/// Ways of a bucket: a cache line.
const WAYS: usize = 8;
/// Fewest locks of a table. Each is held for one client's lookups.
const MIN_SHARDS: usize = 64;
/// Most entries under one lock: what bounds the time in which its buckets are doubled.
pub const MAX_ROOM: usize = 1 << 15;
/// Buckets that a lock's part begins with, to twice as many.
const FIRST_BUCKETS: usize = 32;
/// Entries that memory is taken for at a time.
const CHUNK: usize = 256;
/// Ways for two entries: so many more that buckets are seldom full while there is room for entries.
const WAYS_FOR_TWO: usize = 3;
/// Buckets looked at for somebody to push out, until a bucket's worth of entries was seen.
const MOST_SEARCHED: usize = 16;
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

/// Eight ways on a cache line. Each has its key's tag and one more than the index of its entry, which `0` is of an empty way.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    first: [u32; WAYS],
    rest: [u16; WAYS],
    named: [u16; WAYS],
}

impl Bucket {
    /// Ways that may have the tag: a byte each, of which the lowest bit is set.
    #[inline]
    fn alike(&self, tag: WayTag) -> u64 {
        // All eight first, without a branch: which of them it is cannot be guessed.
        let mut alike = [0_u8; WAYS];
        for (alike, first) in alike.iter_mut().zip(self.first) {
            *alike = u8::from(first == tag.first);
        }
        u64::from_le_bytes(alike)
    }

    fn tag(&self, way: usize) -> WayTag {
        WayTag { first: self.first[way], rest: self.rest[way] }
    }

    fn set(&mut self, way: usize, tag: WayTag, named: u16) {
        self.first[way] = tag.first;
        self.rest[way] = tag.rest;
        self.named[way] = named;
    }

    fn empty_way(&self) -> Option<usize> {
        self.named.iter().position(|named| *named == 0)
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

/// A value with what belongs to it, which stands before it: on one cache line with what a value begins with.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
struct Entry<V> {
    /// Of a free entry: the next free one, as a way names it.
    expires_s: u32,
    tag: u16,
    heat: u8,
    value: V,
}

/// A part of the table under a lock of its own.
struct Shard<V> {
    buckets: Vec<Bucket>,
    most_buckets: usize,
    chunks: Vec<Vec<Entry<V>>>,
    /// Entries that there may be.
    room: usize,
    /// Entries that were ever taken; those after it have no memory yet.
    taken: usize,
    /// A free entry among those, as a way names it; 0: none.
    free: u16,
    entries: usize,
    evicted: u64,
    /// The bucket where somebody to push out is looked for next.
    hand: usize,
}

impl<V: Copy + Default> Shard<V> {
    fn new(size: Size) -> Self {
        Self {
            buckets: vec![Bucket::default(); size.buckets],
            most_buckets: size.most_buckets,
            chunks: Vec::new(),
            room: size.room,
            taken: 0,
            free: 0,
            entries: 0,
            evicted: 0,
            hand: 0,
        }
    }

    #[inline]
    fn bucket_of(&self, tag: WayTag) -> usize {
        ((tag.first >> 8) as usize * self.buckets.len()) >> 24
    }

    #[inline]
    fn entry(&mut self, named: u16) -> &mut Entry<V> {
        let index = usize::from(named) - 1;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    /// The bucket of a key, its way in there, and the name of its entry.
    #[inline(always)]
    fn find(&self, key: Key) -> Option<(usize, usize, u16)> {
        self.find_among(key, self.alike(key))
    }

    /// The bucket of a key, and its ways that may be the key's.
    #[inline(always)]
    fn alike(&self, key: Key) -> (usize, u64) {
        let tag = key.way_tag();
        let at = self.bucket_of(tag);
        (at, self.buckets.get(at).map_or(0, |bucket| bucket.alike(tag)))
    }

    #[inline(always)]
    fn find_among(&self, key: Key, (at, mut alike): (usize, u64)) -> Option<(usize, usize, u16)> {
        let (tag, more) = (key.way_tag(), key.entry_tag());
        let bucket = self.buckets.get(at)?;
        while alike != 0 {
            let way = alike.trailing_zeros() as usize / 8 % WAYS;
            let named = bucket.named[way];
            if bucket.rest[way] == tag.rest && named != 0 {
                let index = usize::from(named - 1);
                if self.chunks.get(index / CHUNK)?.get(index % CHUNK)?.tag == more {
                    return Some((at, way, named));
                }
            }
            alike &= alike - 1;
        }
        None
    }

    /// Makes a place for a key that is not there.
    #[cold]
    fn insert(&mut self, key: Key, now_s: u32) -> u16 {
        let tag = key.way_tag();
        let mut bucket = self.bucket_of(tag);
        // Half full, or one bucket is: while there may be more of them, nobody has to go for that.
        while self.buckets.len() < self.most_buckets
            && (self.entries * 2 >= self.buckets.len() * WAYS || self.buckets[bucket].empty_way().is_none())
        {
            self.double();
            bucket = self.bucket_of(tag);
        }
        let way = self.buckets[bucket].empty_way().unwrap_or_else(|| {
            let way = (0..WAYS).min_by_key(|way| self.rank(bucket, *way, now_s)).unwrap_or(0);
            self.push_out(bucket, way, now_s);
            way
        });
        let named = self.vacancy().unwrap_or_else(|| {
            self.search(now_s);
            self.vacancy().unwrap_or(1)
        });
        self.buckets[bucket].set(way, tag, named);
        *self.entry(named) = Entry { expires_s: 0, tag: key.entry_tag(), heat: 0, value: V::default() };
        self.entries += 1;
        named
    }

    /// Twice as many buckets. What lay in one lies in two then, so none gets too full.
    fn double(&mut self) {
        let doubled = vec![Bucket::default(); self.buckets.len() * 2];
        for old in std::mem::replace(&mut self.buckets, doubled) {
            for way in (0..WAYS).filter(|way| old.named[*way] != 0) {
                let bucket = self.bucket_of(old.tag(way));
                if let Some(empty) = self.buckets[bucket].empty_way() {
                    self.buckets[bucket].set(empty, old.tag(way), old.named[way]);
                }
            }
        }
    }

    /// An entry without a key.
    fn vacancy(&mut self) -> Option<u16> {
        if self.free != 0 {
            let named = self.free;
            self.free = self.entry(named).expires_s as u16;
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
        u16::try_from(self.taken).ok()
    }

    /// Who goes first: who is past its time, then who has used the least, then who expires the soonest.
    fn rank(&mut self, bucket: usize, way: usize, now_s: u32) -> (bool, u8, u32) {
        let named = self.buckets[bucket].named[way];
        let entry = self.entry(named);
        (entry.expires_s > now_s, entry.heat, entry.expires_s)
    }

    /// Pushes somebody out, from where the hand stands.
    fn search(&mut self, now_s: u32) {
        let mut best: Option<((bool, u8, u32), usize, usize)> = None;
        let mut seen = 0;
        let buckets = self.buckets.len();
        for step in 0..buckets {
            if seen >= WAYS || (seen > 0 && step >= MOST_SEARCHED) {
                break;
            }
            let bucket = self.hand;
            self.hand = (self.hand + 1) % buckets;
            for way in 0..WAYS {
                if self.buckets[bucket].named[way] != 0 {
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
        let named = self.buckets[bucket].named[way];
        self.evicted += u64::from(self.entry(named).expires_s > now_s);
        self.clear(bucket, way);
    }

    fn clear(&mut self, bucket: usize, way: usize) {
        let named = self.buckets[bucket].named[way];
        self.buckets[bucket].named[way] = 0;
        let free = self.free;
        self.entry(named).expires_s = free.into();
        self.free = named;
        self.entries -= 1;
    }

    fn bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::capacity);
        let entries = self.chunks.len().saturating_sub(1) * CHUNK + last;
        self.buckets.len() * size_of::<Bucket>() + entries * size_of::<Entry<V>>()
    }
}

/// Each lock on cache lines of its own.
#[repr(align(128))]
struct Padded<T>(T);

/// How large one lock's part is.
#[derive(Debug, Clone, Copy)]
struct Size {
    room: usize,
    buckets: usize,
    most_buckets: usize,
}

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
            if bucket >= shard.buckets.len() {
                continue;
            }
            for way in 0..WAYS {
                if shard.buckets[bucket].named[way] != 0 && !shard.rank(bucket, way, now_s).0 {
                    shard.clear(bucket, way);
                }
            }
            if shard.entries == 0 && shard.taken > 0 {
                *shard = Shard { evicted: shard.evicted, ..Shard::new(self.size) };
            }
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
