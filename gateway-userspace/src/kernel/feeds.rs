//! Feed sets: filled off-path in the generation that does not count, then swapped by one word.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, Release},
    },
    time::{Duration, Instant},
};

use gateway_common::{
    bans::Tag,
    feeds::{FEED_WAYS, feed_places},
    hash::HashKey,
    marks::{self, V4_WORDS, V6_WORDS},
    time::NEVER,
};
use serde::Serialize;
use thiserror::Error;

use super::{
    bans::{mark_v4_prefix, pieces},
    mapped::{ControlCell, FeedCell, Mapped, WideCell},
    target::Target,
    wide_table::WideTable,
};

/// No packet is under judgement for as long as this: a retired generation may be filled again after it.
const GRACE: Duration = Duration::from_millis(100);
/// Moves to make room for one host.
const MAX_MOVES: u32 = 256;
/// Shortest prefixes that a feed may hold: what is wider is passed over.
const SHORTEST: (u8, u8) = (8, 16);

/// The maps of both generations.
pub struct Feeds {
    pub(super) control: Mapped<ControlCell>,
    pub(super) marks4: Mapped<AtomicU64>,
    pub(super) marks6: Mapped<AtomicU64>,
    pub(super) hosts: Mapped<FeedCell>,
    pub(super) wide: Mapped<WideCell>,
    pub(super) swapped: Option<Instant>,
}

/// What a swap brought in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FeedLoad {
    /// IPv4 hosts, those of /25 to /31 included.
    pub hosts: u64,
    /// IPv4 prefixes of /24 and shorter.
    pub prefixes: u64,
    /// IPv6 hosts and pieces of prefixes.
    pub wide: u64,
    /// Prefixes passed over: shorter than /8 (IPv4) or /16 (IPv6).
    pub too_wide: u64,
}

/// The set does not fit; the one before goes on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the feed does not fit: no room for {target} after {loaded} entries; raise the feed capacity. The set before stays in force"
)]
pub struct FeedFull {
    /// The entry that found no room.
    pub target: Target,
    /// Entries that had.
    pub loaded: u64,
}

impl Feeds {
    /// Hosts, and IPv6 entries, of the set in force.
    pub fn used(&self) -> (u64, u64) {
        let generation = (self.control[0].feed_generation.load(Relaxed) & 1) as usize;
        let half = |all: usize| (all / 2) * generation..(all / 2) * (generation + 1);
        let hosts = self.hosts[half(self.hosts.len())].iter().flat_map(|cell| &cell.addresses);
        let wide = self.wide[half(self.wide.len())].iter().flat_map(|cell| &cell.tags);
        (
            hosts.filter(|address| address.load(Relaxed) != 0).count() as u64,
            wide.filter(|tag| tag.load(Relaxed) != 0).count() as u64,
        )
    }

    /// Replaces the whole set. Packets are judged by the old set until the new one is complete. Then `publish` is
    /// called with the new generation and with what makes it count.
    pub fn replace(
        &mut self,
        targets: &mut dyn Iterator<Item = Target>,
        publish: impl FnOnce(u32, &mut dyn FnMut()),
    ) -> Result<FeedLoad, FeedFull> {
        if let Some(left) = self.swapped.and_then(|at| GRACE.checked_sub(at.elapsed())) {
            std::thread::sleep(left);
        }
        let control = &self.control[0];
        let next = (control.feed_generation.load(Relaxed) & 1) ^ 1;
        let half = |all: usize| (all / 2) * next as usize..(all / 2) * (next as usize + 1);
        let hosts = &self.hosts[half(self.hosts.len())];
        let wide = &self.wide[half(self.wide.len())];
        let marks4 = &self.marks4[V4_WORDS as usize * next as usize..][..V4_WORDS as usize];
        let marks6 = &self.marks6[V6_WORDS as usize * next as usize..][..V6_WORDS as usize];
        marks4.iter().chain(marks6).for_each(|word| word.store(0, Relaxed));
        hosts.iter().flat_map(|cell| &cell.addresses).for_each(|address| address.store(0, Relaxed));
        wide.iter().flat_map(|cell| &cell.tags).for_each(|tag| tag.store(0, Relaxed));
        let key = HashKey { words: std::array::from_fn(|i| control.key[i].load(Relaxed)) };
        let hits: Vec<[AtomicU32; 4]> = wide.iter().map(|_| [const { AtomicU32::new(0) }; 4]).collect();
        let mut half = Half {
            key,
            hosts,
            wide: WideTable { buckets: wide, hits: &hits, key },
            marks4,
            marks6,
            lengths: 0,
            seed: key.words[1] | 1,
            load: FeedLoad::default(),
        };
        for target in targets {
            half.add(&target).map_err(|()| FeedFull {
                target,
                loaded: half.load.hosts + half.load.prefixes + half.load.wide,
            })?;
        }
        let lengths = &control.feed_lengths[next as usize];
        let used: Vec<u32> = (1..=16).filter(|bytes| half.lengths >> bytes & 1 == 1).collect();
        lengths.iter().for_each(|word| word.store(0, Relaxed));
        for (i, bytes) in used.iter().enumerate() {
            lengths[i / 4].fetch_or(bytes << (i % 4 * 8), Relaxed);
        }
        control.feed_length_count[next as usize].store(used.len() as u32, Release);
        publish(next, &mut || control.feed_generation.store(next, Release));
        let load = half.load;
        self.swapped = Some(Instant::now());
        Ok(load)
    }
}

/// The generation being filled; nobody reads it yet.
struct Half<'a> {
    key: HashKey,
    hosts: &'a [FeedCell],
    wide: WideTable<'a>,
    marks4: &'a [AtomicU64],
    marks6: &'a [AtomicU64],
    /// Bit for each piece length in bytes.
    lengths: u32,
    seed: u64,
    load: FeedLoad,
}

impl Half<'_> {
    fn add(&mut self, target: &Target) -> Result<(), ()> {
        let shortest = if target.is_v4() { SHORTEST.0 } else { SHORTEST.1 };
        if target.length() < shortest {
            self.load.too_wide += 1;
            return Ok(());
        }
        if target.is_v4() && target.length() <= 24 {
            mark_v4_prefix(self.marks4, target);
            self.load.prefixes += 1;
            return Ok(());
        }
        for piece in pieces(target) {
            if let Some(v4) = piece.address.as_v4().filter(|_| target.is_v4()) {
                self.add_host(v4)?;
                self.load.hosts += 1;
                continue;
            }
            self.wide.insert(&piece, Tag::new(NEVER, 0), 0).map_err(|_| ())?;
            let mark = self.wide.places(&piece).mark as usize;
            self.marks6[mark / 64].fetch_or(1 << (mark % 64), Relaxed);
            self.lengths |= 1 << piece.bytes();
            self.load.wide += 1;
        }
        Ok(())
    }

    fn add_host(&mut self, address: u32) -> Result<(), ()> {
        if address == 0 {
            return Ok(());
        }
        self.marks4[marks::v4_word(address) as usize]
            .fetch_or(marks::HOSTS << marks::v4_shift(address), Relaxed);
        let mask = self.hosts.len() as u32 - 1;
        let (first, second) = feed_places(&self.key, address, mask);
        if self.has(first, address) || self.has(second, address) {
            return Ok(());
        }
        let (mut address, mut bucket) = (address, first);
        if self.put(first, address) || self.put(second, address) {
            return Ok(());
        }
        for _ in 0..MAX_MOVES {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let way = (self.seed >> 33) as usize % FEED_WAYS;
            address = self.hosts[bucket as usize].addresses[way].swap(address, Relaxed);
            let (first, second) = feed_places(&self.key, address, mask);
            bucket = if bucket == first { second } else { first };
            if self.put(bucket, address) {
                return Ok(());
            }
        }
        Err(())
    }

    fn has(&self, bucket: u32, address: u32) -> bool {
        self.hosts[bucket as usize].addresses.iter().any(|cell| cell.load(Relaxed) == address)
    }

    fn put(&self, bucket: u32, address: u32) -> bool {
        let free = self.hosts[bucket as usize].addresses.iter().find(|cell| cell.load(Relaxed) == 0);
        free.inspect(|cell| cell.store(address, Relaxed)).is_some()
    }
}
