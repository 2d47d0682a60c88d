//! Bans on the tables: pieces, marks, listing. One writer at a time.

use std::{
    collections::HashMap,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, Release},
    },
    time::Duration,
};

use gateway_common::{
    address::Wide,
    bans::{Places, Tag, ban_length, length_code},
    marks::{self, FIELDS},
    reason::BanReason,
};
use serde::{Serialize, Serializer};

use super::{
    error::BanError,
    host_table::{Full, HostEntry, HostTable},
    load::Loaded,
    mapped::prefetch,
    target::Target,
    wide_table::{Piece, WideEntry, WideTable},
};

/// A ban as it stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ban {
    /// What it covers.
    pub target: Target,
    /// Why.
    #[serde(serialize_with = "reason_name")]
    pub reason: BanReason,
    /// Time left; `None` is for ever.
    pub remaining: Option<Duration>,
    /// Packets dropped by it.
    pub hits: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn reason_name<S: Serializer>(reason: &BanReason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}

/// The pieces of a target: lengths that are whole bytes.
pub(super) fn pieces(target: &Target) -> impl Iterator<Item = Piece> + use<> {
    let length = target.wide_length().max(1);
    let piece = length.div_ceil(8) * 8;
    let code = length_code(piece, length);
    let base = target.wide();
    (0..1u64 << (piece - length)).map(move |i| {
        let offset = u128::from(i) << (128 - piece);
        let high = base.high | (offset >> 64) as u64;
        Piece { address: Wide { high, low: base.low | offset as u64 }, code }
    })
}

/// Where a target lies in the tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// An IPv4 host.
    Host(u32, Places),
    /// An IPv6 host.
    Piece(Piece, Places),
    /// A prefix: to be worked out piece by piece.
    Pieces,
}

impl Loaded {
    /// The table of IPv4 hosts.
    pub fn host_table(&self) -> HostTable<'_> {
        HostTable { buckets: &self.hosts, hits: &self.host_hits, key: self.key() }
    }

    /// The table of everything else.
    pub fn wide_table(&self) -> WideTable<'_> {
        WideTable { buckets: &self.wide, hits: &self.wide_hits, key: self.key() }
    }

    /// Works out where a target lies, and has the processor fetch what a ban on it will touch: the misses of many overlap.
    pub fn spot(&self, target: &Target) -> Spot {
        if let Some(v4) = target.v4_host() {
            let places = self.host_table().places(v4);
            prefetch(&self.hosts[places.first as usize]);
            prefetch(&self.host_marks[places.mark as usize / 64]);
            prefetch(&self.marks4[marks::v4_word(v4) as usize]);
            prefetch(&self.near4[marks::near_word(v4) as usize]);
            return Spot::Host(v4, places);
        }
        if target.wide_length() == 128 {
            let piece = Piece { address: target.wide(), code: length_code(128, 128) };
            let places = self.wide_table().places(&piece);
            prefetch(&self.wide[places.first as usize]);
            prefetch(&self.marks6[places.mark as usize / 64]);
            return Spot::Piece(piece, places);
        }
        Spot::Pieces
    }

    /// Bans a target that the guard has let pass, at its spot. True when it is new.
    pub fn ban(
        &self,
        target: &Target,
        spot: Spot,
        expiry: u32,
        reason: BanReason,
        now: u32,
    ) -> Result<bool, BanError> {
        let tag = Tag::new(expiry, reason.code());
        match spot {
            Spot::Host(v4, places) => {
                self.near_host(v4);
                mark(&self.marks4, marks::v4_word(v4), marks::HOSTS << marks::v4_shift(v4));
                let table = self.host_table();
                // A host without the mark is not in the table: nothing to replace, nothing to search for.
                let fresh = mark_bit(&self.host_marks, places.mark);
                if fresh && table.insert_fresh(v4, places, tag, now) {
                    return Ok(true);
                }
                table.insert(v4, tag, now).map_err(|_| full(target, table.buckets.len() * 8))
            }
            Spot::Piece(piece, places) => {
                self.mark_wide(target);
                let table = self.wide_table();
                self.ban_piece(&piece, places, tag, now).map_err(|_| full(target, table.buckets.len() * 3))
            }
            Spot::Pieces => self.ban_pieces(target, tag, now),
        }
    }

    /// Bans an IPv6 piece. True when it is new.
    fn ban_piece(&self, piece: &Piece, places: Places, tag: Tag, now: u32) -> Result<bool, Full> {
        let table = self.wide_table();
        // As with hosts: no piece with this mark is in the table.
        let unmarked = mark_bit(&self.marks6, places.mark);
        if unmarked && table.insert_fresh(piece, places, tag, now) {
            return Ok(true);
        }
        table.insert(piece, tag, now)
    }

    /// Bans every piece of a prefix, or none. True when one is new.
    fn ban_pieces(&self, target: &Target, tag: Tag, now: u32) -> Result<bool, BanError> {
        let table = self.wide_table();
        self.mark_wide(target);
        let mut fresh = false;
        for (done, piece) in pieces(target).enumerate() {
            let inserted = if target.is_v4() {
                table.insert(&piece, tag, now)
            } else {
                self.ban_piece(&piece, table.places(&piece), tag, now)
            };
            match inserted {
                Ok(new) => fresh |= new,
                Err(Full) => {
                    for piece in pieces(target).take(done) {
                        table.remove(&piece, now);
                    }
                    return Err(full(target, table.buckets.len() * 3));
                }
            }
        }
        Ok(fresh)
    }

    /// Adds an entry of another generation's host table.
    pub fn restore_host(&self, entry: &HostEntry, now: u32) -> Result<(), Full> {
        let v4 = entry.address;
        self.near_host(v4);
        mark(&self.marks4, marks::v4_word(v4), marks::HOSTS << marks::v4_shift(v4));
        let table = self.host_table();
        mark_bit(&self.host_marks, table.places(v4).mark);
        table.restore(entry, now)
    }

    /// Adds an entry of another generation's wide table.
    pub fn restore_wide(&self, entry: &WideEntry, now: u32) -> Result<(), Full> {
        let table = self.wide_table();
        let piece = entry.piece;
        let target = Target::of(piece.address, ban_length(piece.code) as u8);
        self.mark_wide(&target);
        if !target.is_v4() {
            mark_bit(&self.marks6, table.places(&piece).mark);
        }
        table.restore(entry, now)
    }

    /// Marks that make the kernel look for a target in the wide table: /24s for IPv4, the piece's length for IPv6.
    fn mark_wide(&self, target: &Target) {
        if target.is_v4() {
            let bytes = target.wide_length().div_ceil(8).clamp(13, 16);
            self.control[0].lengths4.fetch_or(1 << (bytes - 13), Release);
            self.near_prefix(target);
            mark_v4_prefix(&self.marks4, target);
            return;
        }
        let bytes = target.wide_length().max(1).div_ceil(8);
        let control = &self.control[0];
        let count = control.length_count.load(Relaxed);
        let used = |i: u32| (control.lengths[i as usize / 4].load(Relaxed) >> (i % 4 * 8)) & 0xff;
        if (0..count).any(|i| used(i) == bytes) {
            return;
        }
        let slot = &control.lengths[count as usize / 4];
        slot.store(slot.load(Relaxed) | bytes << (count % 4 * 8), Release);
        control.length_count.store(count + 1, Release);
    }

    /// Lifts a ban. True when it was standing. Marks stay until the next sweep: they only cost a look.
    pub fn unban(&self, target: &Target) -> bool {
        let now = self.clock.expiry_now();
        self.marks_stale.store(true, Relaxed);
        if let Some(v4) = target.v4_host() {
            return self.host_table().remove(v4, now);
        }
        let table = self.wide_table();
        pieces(target).fold(false, |held, piece| table.remove(&piece, now) | held)
    }

    /// The ban on exactly this target, if it stands.
    pub fn find(&self, target: &Target) -> Option<Ban> {
        let now = self.clock.expiry_now();
        if let Some(v4) = target.v4_host() {
            let table = self.host_table();
            let entry = table.entry(table.find(v4)?);
            return entry.tag.holds(now).then(|| self.describe(*target, entry.tag, entry.hits.into()));
        }
        let table = self.wide_table();
        let mut found = None;
        let mut hits = 0;
        for piece in pieces(target) {
            let entry = table.entry(table.find(&piece)?);
            hits += u64::from(entry.hits);
            found = entry.tag.holds(now).then_some(entry.tag);
        }
        found.map(|tag| self.describe(*target, tag, hits))
    }

    fn describe(&self, target: Target, tag: Tag, hits: u64) -> Ban {
        let reason = BanReason::from_code(tag.reason()).unwrap_or(BanReason::Unspecified);
        Ban { target, reason, remaining: self.clock.remaining(tag.expiry()), hits }
    }

    /// Every ban that stands, in no order; pieces put together again.
    pub fn bans(&self) -> Vec<Ban> {
        let now = self.clock.expiry_now();
        let hosts = self.host_table();
        let mut bans: Vec<Ban> = hosts
            .entries(0..hosts.buckets.len())
            .filter(|(_, entry)| entry.tag.holds(now))
            .map(|(_, entry)| {
                let target = Target::of(Wide::mapped(entry.address), 128);
                self.describe(target, entry.tag, entry.hits.into())
            })
            .collect();
        let wide = self.wide_table();
        let mut places: HashMap<Target, usize> = HashMap::new();
        for (_, entry) in wide.entries(0..wide.buckets.len()).filter(|(_, entry)| entry.tag.holds(now)) {
            let length = ban_length(entry.piece.code);
            let target = Target::of(entry.piece.address, length as u8);
            if length.is_multiple_of(8) {
                bans.push(self.describe(target, entry.tag, entry.hits.into()));
                continue;
            }
            match places.get(&target) {
                Some(place) => bans[*place].hits += u64::from(entry.hits),
                None => {
                    places.insert(target, bans.len());
                    bans.push(self.describe(target, entry.tag, entry.hits.into()));
                }
            }
        }
        bans
    }

    /// Entries of the host table and of the wide table that stand.
    pub fn used(&self) -> (u64, u64) {
        let now = self.clock.expiry_now();
        let (hosts, wide) = (self.host_table(), self.wide_table());
        let hosts = hosts.entries(0..hosts.buckets.len()).filter(|(_, entry)| entry.tag.holds(now)).count();
        let wide = wide.entries(0..wide.buckets.len()).filter(|(_, entry)| entry.tag.holds(now)).count();
        (hosts as u64, wide as u64)
    }
}

/// Marks every /24 that an IPv4 prefix touches.
pub(super) fn mark_v4_prefix(cells: &[AtomicU64], target: &Target) {
    let first = target.wide().low as u32 >> 8;
    let count = 1u32 << 24u32.saturating_sub(u32::from(target.length()));
    let every = u64::MAX / 3 * marks::PREFIX;
    let mut field = first;
    while field < first + count {
        if field.is_multiple_of(FIELDS) && field + FIELDS <= first + count {
            mark(cells, field / FIELDS, every);
            field += FIELDS;
        } else {
            mark(cells, field / FIELDS, marks::PREFIX << ((field % FIELDS) * 2));
            field += 1;
        }
    }
}

/// Sets bits; true when one of them was not set.
fn mark(cells: &[AtomicU64], word: u32, bits: u64) -> bool {
    let cell = &cells[word as usize];
    let old = cell.load(Relaxed);
    if old & bits != bits {
        cell.store(old | bits, Release);
    }
    old & bits != bits
}

fn mark_bit(cells: &[AtomicU64], bit: u32) -> bool {
    mark(cells, bit / 64, 1 << (bit % 64))
}

fn full(target: &Target, entries: usize) -> BanError {
    BanError::Full { target: *target, capacity: entries as u64 }
}
