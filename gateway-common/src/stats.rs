//! Counters, one record for each CPU; only that CPU writes it, so no write is atomic.

use crate::reason::{BAN_REASONS, PROTOS, REASONS};

/// What one CPU has counted since the maps were made.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct CpuStats {
    /// Packets by reason of their verdict and by protocol.
    pub packets: [[u64; PROTOS]; REASONS],
    /// Bytes by reason of their verdict.
    pub bytes: [u64; REASONS],
    /// Packets that a part in observe mode would have dropped, by reason.
    pub observed: [u64; REASONS],
    /// Packets dropped by bans, by the ban's reason.
    pub bans: [u64; BAN_REASONS],
    /// Events written to the ring.
    pub events: u64,
    /// Events not written: over the budget, or the ring was full.
    pub events_lost: u64,
    /// Jiffy of the event budget.
    pub event_tick: u64,
    /// Events left in that jiffy.
    pub event_left: u64,
    /// Unused, so that records of two CPUs share no cache line.
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<CpuStats>() == 2048 + 512 + 128 + 64);
const _: () = assert!(size_of::<CpuStats>().is_multiple_of(64));
