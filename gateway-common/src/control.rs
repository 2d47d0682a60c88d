//! The one record that tells the program what to do. The daemon writes single words of it through mmap.

use crate::{hash::HashKey, reason::Modes};

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
    /// Piece lengths in bytes in use for IPv6 bans, longest first.
    pub lengths: [u8; LENGTHS],
}

const _: () = assert!(size_of::<Control>() == 128);

impl Control {
    /// The modes that count now.
    #[inline(always)]
    pub const fn modes_at(&self, jiffies: u64) -> Modes {
        if jiffies >= self.heartbeat_deadline { Modes(self.modes_lapsed) } else { Modes(self.modes) }
    }
}
