//! What lies under one lock: buckets that say where entries lie, the entries, and who is pushed out when there is no room.

use super::{Key, WayTag};

/// Ways of a bucket: a cache line.
pub(super) const WAYS: usize = 8;
/// Entries that memory is taken for at a time.
const CHUNK: usize = 256;
/// Buckets looked at for somebody to push out, until a bucket's worth of entries was seen.
const MOST_SEARCHED: usize = 16;

/// How large one lock's part is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub room: usize,
    pub buckets: usize,
    pub most_buckets: usize,
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

    #[inline]
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

/// A value with what belongs to it, which stands before it: on one cache line with what a value begins with.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
pub(super) struct Entry<V> {
    /// Of a free entry: the next free one, as a way names it.
    pub expires_s: u32,
    tag: u16,
    pub heat: u8,
    pub value: V,
}

/// A part of the table under a lock of its own.
pub(super) struct Shard<V> {
    buckets: Vec<Bucket>,
    most_buckets: usize,
    chunks: Vec<Vec<Entry<V>>>,
    /// Entries that there may be.
    room: usize,
    /// Entries that were ever taken; those after it have no memory yet.
    taken: usize,
    /// A free entry among those, as a way names it; 0: none.
    free: u16,
    pub entries: usize,
    pub evicted: u64,
    /// The bucket where somebody to push out is looked for next.
    hand: usize,
}

impl<V: Copy + Default> Shard<V> {
    pub fn new(size: Size) -> Self {
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
    pub fn entry(&mut self, named: u16) -> &mut Entry<V> {
        let index = usize::from(named) - 1;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    /// The bucket of a key, its way in there, and the name of its entry.
    #[inline(always)]
    pub fn find(&self, key: Key) -> Option<(usize, usize, u16)> {
        self.find_among(key, self.alike(key))
    }

    /// The bucket of a key, and its ways that may be the key's.
    #[inline(always)]
    pub fn alike(&self, key: Key) -> (usize, u64) {
        let tag = key.way_tag();
        let at = self.bucket_of(tag);
        (at, self.buckets.get(at).map_or(0, |bucket| bucket.alike(tag)))
    }

    #[inline(always)]
    pub fn find_among(&self, key: Key, (at, mut alike): (usize, u64)) -> Option<(usize, usize, u16)> {
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
    pub fn insert(&mut self, key: Key, now_s: u32) -> u16 {
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

    pub fn clear(&mut self, bucket: usize, way: usize) {
        let named = self.buckets[bucket].named[way];
        self.buckets[bucket].named[way] = 0;
        let free = self.free;
        self.entry(named).expires_s = free.into();
        self.free = named;
        self.entries -= 1;
    }

    pub fn bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::capacity);
        let entries = self.chunks.len().saturating_sub(1) * CHUNK + last;
        self.buckets.len() * size_of::<Bucket>() + entries * size_of::<Entry<V>>()
    }

    /// Frees what is past its time in a bucket, and gives the memory back when nothing is left. `size`: as it was made with.
    pub fn sweep(&mut self, bucket: usize, now_s: u32, size: Size) {
        if bucket >= self.buckets.len() {
            return;
        }
        for way in 0..WAYS {
            if self.buckets[bucket].named[way] != 0 && !self.rank(bucket, way, now_s).0 {
                self.clear(bucket, way);
            }
        }
        if self.entries == 0 && self.taken > 0 {
            *self = Self { evicted: self.evicted, ..Self::new(size) };
        }
    }
}
