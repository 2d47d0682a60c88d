//! One record for each CPU: counters, and the packet it is judging. Only that CPU writes it, so no write is atomic.

use crate::{
    address::Wide,
    flood::Sketch,
    reason::{BAN_REASONS, PROTOS, REASONS},
};

/// What is known of the packet under judgement, for functions which the verifier checks on their own: it lies in the CPU's record,
/// so that they reach it without a pointer being handed over. Time and protocol class are written for every packet, the
/// rest only before such a function is called (decision 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Scene {
    /// Now.
    pub jiffies: u64,
    /// Source address, IPv4 as IPv4-mapped; zero until it is known.
    pub source: Wide,
    /// Destination address, likewise.
    pub destination: Wide,
    /// Length of the frame in bytes.
    pub length: u32,
    /// Modes that count now.
    pub modes: u32,
    /// Code of the protocol class for the counters.
    pub proto: u32,
    /// IP protocol number, as far as it is known.
    pub protocol: u32,
    /// Source port in the upper half, destination port (ICMP: type and code) in the lower.
    pub ports: u32,
    /// TCP flags.
    pub tcp_flags: u32,
}

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
    /// Jiffy in which the event budget was found spent.
    pub events_spent: u64,
    /// Jiffy of the event budget.
    pub event_tick: u64,
    /// Events left in that jiffy.
    pub event_left: u64,
    /// The packet under judgement.
    pub scene: Scene,
    /// Jiffy of the capture budget.
    pub capture_tick: u64,
    /// Packets left in that jiffy.
    pub capture_left: u64,
    /// Packets not captured: over the budget, or the ring was full.
    pub capture_lost: u64,
    /// Jiffy of the budget for new sources.
    pub insert_tick: u64,
    /// New sources left in that jiffy.
    pub insert_left: u64,
    /// New connections left of those taken out of the gate.
    pub gate_left: u64,
    /// Jiffy in which the gate had nothing left.
    pub gate_refused: u64,
    /// Packets of sources that got no cell for want of budget.
    pub untracked: u64,
    /// Unused, so that records of two CPUs share no cache line.
    pub reserved: [u64; 4],
    /// The sources that got no cell.
    pub sketch: Sketch,
}

const _: () = assert!(size_of::<CpuStats>() == 2048 + 512 + 128 + 192 + size_of::<Sketch>());
const _: () = assert!(size_of::<CpuStats>().is_multiple_of(64));
