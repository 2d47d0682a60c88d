//! Sampled drops as the kernel sends them.
#![allow(unsafe_code)]

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use gateway_common::{
    address::Wide,
    event::DropRecord,
    reason::{BanReason, Reason},
};
use serde::Serialize;

use super::{clock::Clock, target::Target};

/// One packet that was dropped, or would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropEvent {
    /// How long ago it was dropped, when the event was read.
    #[serde(skip)]
    pub age: Duration,
    /// Why, by name.
    pub reason: &'static str,
    /// For bans, the ban's reason by name.
    pub ban_reason: Option<&'static str>,
    /// False when the part only observes.
    pub dropped: bool,
    /// Source, when it was parsed so far.
    pub source: Option<IpAddr>,
    /// Destination, likewise.
    pub destination: Option<IpAddr>,
    /// Source port, zero without one.
    pub source_port: u16,
    /// Destination port, zero without one; for ICMP type and code.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Index of the interface.
    pub interface: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// What matched: the place in the ban table, the class of limits.
    pub matched: u32,
}

/// The reading end of the ring. Its descriptor is readable when events wait: put it into `tokio`'s `AsyncFd`, call
/// [`next`](Self::next) until it gives `None`, then wait again.
pub struct Events {
    ring: RingBuf<MapData>,
    clock: Clock,
}

impl Events {
    pub(super) const fn new(ring: RingBuf<MapData>, clock: Clock) -> Self {
        Self { ring, clock }
    }

    /// The next event, if one waits. Records this build does not know are passed over.
    #[allow(clippy::should_implement_trait, reason = "not an iterator: it has a next one again later")]
    pub fn next(&mut self) -> Option<DropEvent> {
        loop {
            let item = self.ring.next()?;
            if item.len() < size_of::<DropRecord>() {
                continue;
            }
            // SAFETY: the item has the bytes of a record, which is plain data of integers without padding.
            let record: DropRecord = unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) };
            if let Some(event) = describe(&self.clock, &record) {
                return Some(event);
            }
        }
    }
}

fn describe(clock: &Clock, record: &DropRecord) -> Option<DropEvent> {
    let reason = Reason::from_code(record.reason)?;
    let is_ban = matches!(reason, Reason::BanHost | Reason::BanPrefix);
    let ticks = clock.jiffies().saturating_sub(record.jiffies);
    Some(DropEvent {
        age: Duration::from_nanos(ticks.saturating_mul(clock.tick_ns())),
        reason: reason.name(),
        ban_reason: BanReason::from_code(record.ban_reason).filter(|_| is_ban).map(BanReason::name),
        dropped: record.dropped != 0,
        source: address(record.source),
        destination: address(record.destination),
        source_port: record.source_port,
        destination_port: record.destination_port,
        protocol: record.protocol,
        tcp_flags: record.tcp_flags,
        interface: record.interface,
        length: record.length,
        matched: record.matched,
    })
}

fn address([high, low]: [u64; 2]) -> Option<IpAddr> {
    (high != 0 || low != 0).then(|| Target::of(Wide { high, low }, 128).address())
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
