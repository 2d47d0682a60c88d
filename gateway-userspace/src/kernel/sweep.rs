//! Sweeping: places of expired bans are emptied, marks cleared that nothing stands behind any more, and cells of the limiter
//! kept where the circle of its time does not bring them round again.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use gateway_common::{
    gcra,
    marks::{self, FIELDS, HOST_WORDS, V4_WORDS, V6_WORDS},
};
use serde::Serialize;

use super::{load::Loaded, target::Target, wide_table::Piece};

/// After so many sweeps that found nothing to clear the marks are made anew all the same: a ban that took the place of an
/// expired one has left that one's mark behind.
const QUIET_SWEEPS: u32 = 10;
/// Jiffies without a daemon after which nothing is left of any limit: an eighth of the circle of limiter time, beyond which
/// cells that are behind and cells that are ahead could no longer be told apart.
const LONG_ALONE: u64 = 1 << (64 - gcra::TICK_BITS - 3);

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Entries whose time was up.
    pub expired: u64,
    /// Entries that stand.
    pub standing: u64,
}

impl Loaded {
    /// Clears entries whose time is up, and rebuilds the marks from what stands when anything was cleared or lifted.
    pub fn sweep(&self) -> Swept {
        self.settle_cells(false);
        let swept = self.clear_expired();
        let lifted = self.marks_stale.swap(false, Relaxed);
        let quiet = self.quiet_sweeps.load(Relaxed) + 1;
        if swept.expired != 0 || lifted || quiet >= QUIET_SWEEPS {
            self.rebuild_marks();
            self.quiet_sweeps.store(0, Relaxed);
        } else {
            self.quiet_sweeps.store(quiet, Relaxed);
        }
        swept
    }

    /// True when the maps are new, or no daemon has swept them for long.
    pub(super) fn long_alone(&self) -> bool {
        let deadline = self.control[0].heartbeat_deadline.load(Relaxed);
        !self.adopted || self.clock.jiffies() > deadline.saturating_add(LONG_ALONE)
    }

    /// Makes cells whole that time has left far behind, or all of them.
    pub(super) fn settle_cells(&self, all: bool) {
        let now = gcra::now(self.clock.jiffies());
        for cell in self.cells.iter().flatten().chain(&self.gate[..]) {
            let seen = cell.load(Relaxed);
            let settled = if all { Some(gcra::whole(seen, now)) } else { gcra::settled(seen, now) };
            if let Some(settled) = settled {
                // What the kernel has just written is not of long ago.
                let _ = cell.compare_exchange(seen, settled, Relaxed, Relaxed);
            }
        }
    }

    fn clear_expired(&self) -> Swept {
        let now = self.clock.expiry_now();
        let (hosts, wide) = (self.host_table(), self.wide_table());
        let mut swept = Swept::default();
        for (place, tag) in hosts.tags() {
            if tag.holds(now) {
                swept.standing += 1;
            } else {
                hosts.clear(place);
                swept.expired += 1;
            }
        }
        for (place, tag) in wide.tags() {
            if tag.holds(now) {
                swept.standing += 1;
            } else {
                wide.clear(place);
                swept.expired += 1;
            }
        }
        swept
    }

    /// Makes the marks anew from the entries in the tables.
    fn rebuild_marks(&self) {
        let (hosts, wide) = (self.host_table(), self.wide_table());
        let mut marks4 = vec![0u64; V4_WORDS as usize];
        let mut host_marks = vec![0u64; HOST_WORDS as usize];
        let mut marks6 = vec![0u64; V6_WORDS as usize];
        for address in hosts.addresses() {
            marks4[marks::v4_word(address) as usize] |= marks::HOSTS << marks::v4_shift(address);
            let bit = hosts.places(address).mark;
            host_marks[bit as usize / 64] |= 1 << (bit % 64);
        }
        for (_, entry) in wide.entries(0..wide.buckets.len()) {
            let piece = entry.piece;
            if Target::of(piece.address, (piece.bytes() * 8) as u8).is_v4() {
                mark_pieces(&mut marks4, piece);
            } else {
                let bit = wide.places(&piece).mark as usize;
                marks6[bit / 64] |= 1 << (bit % 64);
            }
        }
        settle(&self.marks4, &marks4);
        settle(&self.host_marks, &host_marks);
        self.rebuild_near();
        settle(&self.marks6, &marks6);
    }
}

/// Marks the /24s of an IPv4 piece, which are one or a run of 256 or 65,536 that starts at a word.
fn mark_pieces(words: &mut [u64], piece: Piece) {
    let first = piece.address.low as u32;
    let length = piece.bytes() * 8 - 96;
    if length >= 24 {
        words[marks::v4_word(first) as usize] |= marks::PREFIX << marks::v4_shift(first);
        return;
    }
    let word = marks::v4_word(first) as usize;
    let count = 1usize << (24 - length) >> FIELDS.trailing_zeros();
    for word in &mut words[word..word + count] {
        *word |= u64::MAX / 3 * marks::PREFIX;
    }
}

/// Writes the words that differ. Nothing inserts meanwhile: the caller is the one writer.
fn settle(cells: &[AtomicU64], words: &[u64]) {
    for (cell, word) in cells.iter().zip(words) {
        if cell.load(Relaxed) != *word {
            cell.store(*word, Release);
        }
    }
}
