//! The one record that tells the program what to do. The daemon writes single words of it through mmap.

use crate::{gcra::Limit, hash::HashKey, reason::Modes};

/// Prefix lengths (whole bytes) that the wide table can hold for IPv6: 1 to 16 bytes.
pub const LENGTHS: usize = 16;

/// Settings of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Control {
    /// [`crate::SCHEMA`] of the writer.
    pub schema: u32,
    /// Modes while the heartbeat is fresh ([`Modes`]).
    pub modes: u32,
    /// Modes once it has lapsed.
    pub modes_lapsed: u32,
    /// Jiffies are shifted right by this to make expiry units.
    pub expiry_shift: u32,
    /// Jiffies at which the heartbeat lapses; `u64::MAX` never.
    pub heartbeat_deadline: u64,
    /// Key of the hashes.
    pub key: HashKey,
    /// Buckets of the host table, less one; a power of two less one.
    pub host_mask: u32,
    /// Buckets of the wide table, less one.
    pub wide_mask: u32,
    /// Sampled events a CPU may emit in one jiffy.
    pub event_budget: u32,
    /// How many of `lengths` are in use for IPv6 bans.
    pub length_count: u32,
    /// Piece lengths in bytes in use for IPv6 bans.
    pub lengths: [u8; LENGTHS],
    /// Modes as the daemon was asked for; `modes` has parts without anything configured off.
    pub modes_wanted: u32,
    /// Buckets of the limiter's cells, less one.
    pub cell_mask: u32,
    /// Buckets of one generation of the feed's IPv4 hosts, less one.
    pub feed_host_mask: u32,
    /// Buckets of one generation of the feed's wide table, less one.
    pub feed_wide_mask: u32,
    /// The generation of the feed that counts: 0 or 1.
    pub feed_generation: u32,
    /// How many of each generation's lengths are in use.
    pub feed_length_count: [u32; 2],
    /// Nanoseconds of a jiffy.
    pub tick_ns: u32,
    /// Bit for each part that has something to check; the daemon's note to itself.
    pub configured: u32,
    /// Piece lengths in bytes in use for IPv6 in each generation of the feed.
    pub feed_lengths: [[u8; LENGTHS]; 2],
    /// Bit for each [`crate::reason::Reason`] whose packets are copied to the capture ring.
    pub capture_reasons: u32,
    /// Packets a CPU may copy in one jiffy.
    pub capture_budget: u32,
    /// New sources a CPU may give cells in one jiffy.
    pub insert_budget: u32,
    /// Seed of the sketch, drawn anew at every load.
    pub sketch_seed: u64,
    /// New connections that the whole host takes; a cost of zero is no gate.
    pub gate: Limit,
    /// New connections that a CPU takes out of the gate at once.
    pub gate_batch: u32,
    /// Packets of one untracked source in one window of the sketch; zero is no bound.
    pub heavy: u32,
    /// Jiffies are shifted right by this to make windows of the sketch.
    pub window_shift: u32,
    /// Bit for each piece length of IPv4 bans that was ever in use: /8, /16, /24, /32.
    pub lengths4: u32,
}

const _: () = assert!(size_of::<Control>() == 192);

impl Control {
    /// The modes that count now.
    #[inline(always)]
    pub const fn modes_at(&self, jiffies: u64) -> Modes {
        if jiffies >= self.heartbeat_deadline { Modes(self.modes_lapsed) } else { Modes(self.modes) }
    }
}
