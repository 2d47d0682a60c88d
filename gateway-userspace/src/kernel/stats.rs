//! Counters, summed over CPUs. Reading disturbs nobody: the memory is shared.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gateway_common::{
    reason::{BanReason, Proto, Reason},
    stats::CpuStats,
};
use serde::Serialize;

use super::mapped::{Mapped, StatsCell};

/// Everything counted since the maps were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Packets and bytes by reason; reasons never seen are left out.
    pub reasons: Vec<ReasonStats>,
    /// Packets dropped by bans, by the ban's reason; those never seen are left out.
    pub bans: Vec<BanStats>,
    /// Packets that passed.
    pub passed: u64,
    /// Packets dropped, or answered by the program itself.
    pub dropped: u64,
    /// Packets that a part in observe mode would have dropped.
    pub observed: u64,
    /// Events sampled.
    pub events: u64,
    /// Drops that were not sampled: over the budget, or the ring was full.
    pub events_lost: u64,
    /// Packets that a capture wanted and did not get: over the budget, or the ring was full.
    pub capture_lost: u64,
}

/// Counters of one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonStats {
    /// Name of the reason.
    pub reason: &'static str,
    /// True when such packets were dropped.
    pub drop: bool,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that would have been dropped for it, but only observed.
    pub observed: u64,
    /// Packets by protocol; those never seen are left out.
    pub protocols: Vec<(&'static str, u64)>,
}

/// Packets dropped by bans of one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BanStats {
    /// Name of the ban's reason.
    pub reason: &'static str,
    /// Packets.
    pub packets: u64,
}

impl Stats {
    /// Packets that ended with a reason.
    pub fn packets(&self, reason: Reason) -> u64 {
        self.reasons.iter().find(|r| r.reason == reason.name()).map_or(0, |r| r.packets)
    }

    /// Packets that would have ended with a reason.
    pub fn observed(&self, reason: Reason) -> u64 {
        self.reasons.iter().find(|r| r.reason == reason.name()).map_or(0, |r| r.observed)
    }

    pub(super) fn read(cells: &Mapped<StatsCell>) -> Self {
        let sum = |offset: usize| -> u64 {
            cells
                .iter()
                .map(|cpu| cpu.0.get(offset / 8).map_or(0, |word: &AtomicU64| word.load(Relaxed)))
                .sum()
        };
        let mut stats = Self {
            events: sum(std::mem::offset_of!(CpuStats, events)),
            capture_lost: sum(std::mem::offset_of!(CpuStats, capture_lost)),
            ..Self::default()
        };
        for reason in Reason::ALL {
            let code = reason.code() as usize;
            let row = std::mem::offset_of!(CpuStats, packets) + code * gateway_common::reason::PROTOS * 8;
            let protocols: Vec<_> = Proto::ALL
                .iter()
                .map(|proto| (proto.name(), sum(row + proto.code() as usize * 8)))
                .filter(|(_, packets)| *packets > 0)
                .collect();
            let packets = protocols.iter().map(|(_, packets)| packets).sum();
            let observed = sum(std::mem::offset_of!(CpuStats, observed) + code * 8);
            if reason.is_drop() {
                stats.dropped += packets;
            } else {
                stats.passed += packets;
            }
            stats.observed += observed;
            if packets > 0 || observed > 0 {
                stats.reasons.push(ReasonStats {
                    reason: reason.name(),
                    drop: reason.is_drop(),
                    packets,
                    bytes: sum(std::mem::offset_of!(CpuStats, bytes) + code * 8),
                    observed,
                    protocols,
                });
            }
        }
        // Each packet that was dropped or observed was to be sampled, but for those answered with a cookie.
        let cookies = stats.packets(Reason::SynCookie);
        stats.events_lost = (stats.dropped + stats.observed).saturating_sub(cookies + stats.events);
        for reason in BanReason::ALL {
            let packets = sum(std::mem::offset_of!(CpuStats, bans) + reason.code() as usize * 8);
            if packets > 0 {
                stats.bans.push(BanStats { reason: reason.name(), packets });
            }
        }
        stats
    }
}
