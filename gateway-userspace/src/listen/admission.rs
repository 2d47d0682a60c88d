//! Who may connect at all: connections in total, for each listener, and for each source.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shards of the table of sources: accepting workers rarely meet at one lock.
const SHARDS: usize = 16;

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `[http] max_connections` are open.
    #[error("the gateway has as many connections as it may")]
    Total,
    /// The listener's `max_connections` are open.
    #[error("the listener has as many connections as it may")]
    Listener,
    /// `[http] max_connections_per_source` are open from this source.
    #[error("the source has as many connections as it may")]
    Source,
}

/// Counts open connections. The table of sources holds one entry for each source that is connected now,
/// so that it is bounded by the total.
#[derive(Debug)]
pub struct Admission {
    max_total: AtomicU64,
    max_per_source: AtomicU64,
    total: AtomicU64,
    listeners: Box<[AtomicU64]>,
    sources: Box<[Mutex<HashMap<IpAddr, u64>>]>,
    hasher: RandomState,
    refused: [AtomicU64; 3],
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    listener: usize,
    source: Option<IpAddr>,
}

impl Admission {
    /// Counters for `listeners` listeners.
    pub fn new(listeners: usize, max_total: u64, max_per_source: u64) -> Self {
        Self {
            max_total: AtomicU64::new(max_total),
            max_per_source: AtomicU64::new(max_per_source),
            total: AtomicU64::new(0),
            listeners: (0..listeners).map(|_| AtomicU64::new(0)).collect(),
            sources: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            refused: [const { AtomicU64::new(0) }; 3],
        }
    }

    /// Takes other bounds, for the connections to come.
    pub fn set_bounds(&self, max_total: u64, max_per_source: u64) {
        self.max_total.store(max_total, Ordering::Relaxed);
        self.max_per_source.store(max_per_source, Ordering::Relaxed);
    }

    /// A place for a connection from `source` (`None`: a trusted proxy, which many clients share).
    ///
    /// # Errors
    /// Which bound is reached; it is counted.
    pub fn admit(
        self: &Arc<Self>,
        listener: usize,
        max_listener: u64,
        source: Option<IpAddr>,
    ) -> Result<ConnectionPermit, Refusal> {
        let refuse = |refusal: Refusal| {
            self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
            refusal
        };
        take(&self.total, self.max_total.load(Ordering::Relaxed)).ok_or_else(|| refuse(Refusal::Total))?;
        if let Some(count) = self.listeners.get(listener)
            && take(count, max_listener).is_none()
        {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(refuse(Refusal::Listener));
        }
        let source = source.map(bucket);
        if let Some(source) = source {
            let mut table = self.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
            let count = table.entry(source).or_insert(0);
            if *count >= self.max_per_source.load(Ordering::Relaxed) {
                drop(table);
                self.total.fetch_sub(1, Ordering::Relaxed);
                if let Some(count) = self.listeners.get(listener) {
                    count.fetch_sub(1, Ordering::Relaxed);
                }
                return Err(refuse(Refusal::Source));
            }
            *count += 1;
        }
        Ok(ConnectionPermit { admission: Arc::clone(self), listener, source })
    }

    /// Open connections.
    pub fn open(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Connections refused: by total, by listener, by source.
    pub fn refused(&self) -> [u64; 3] {
        [0, 1, 2].map(|i| self.refused[i].load(Ordering::Relaxed))
    }

    fn shard(&self, source: IpAddr) -> &Mutex<HashMap<IpAddr, u64>> {
        &self.sources[self.hasher.hash_one(source) as usize % SHARDS]
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.admission.listeners.get(self.listener) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(source) = self.source {
            let mut table = self.admission.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
            if let Entry::Occupied(mut entry) = table.entry(source) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}

/// One more, unless that passes `max`.
fn take(count: &AtomicU64, max: u64) -> Option<()> {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).ok().map(|_| ())
}

/// What counts as one source: an IPv4 address, or an IPv6 /64, which is what one subscriber has.
fn bucket(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_refuses_and_gives_back() {
        let admission = Arc::new(Admission::new(2, 4, 2));
        let a: IpAddr = "192.0.2.1".parse().expect("address");
        let b: IpAddr = "2001:db8::1".parse().expect("address");
        let b_too: IpAddr = "2001:db8::2".parse().expect("address");
        let one = admission.admit(0, 3, Some(a)).expect("first");
        let _two = admission.admit(0, 3, Some(a)).expect("second");
        assert_eq!(admission.admit(0, 3, Some(a)).expect_err("third of a source"), Refusal::Source);
        let _three = admission.admit(0, 3, None).expect("a trusted proxy is not counted as a source");
        assert_eq!(admission.admit(0, 3, Some(b)).expect_err("listener"), Refusal::Listener);
        let _four = admission.admit(1, 3, Some(b)).expect("other listener");
        assert_eq!(admission.admit(1, 3, Some(b)).expect_err("total"), Refusal::Total);
        drop(one);
        let _again = admission.admit(1, 3, Some(b_too)).expect("a place was given back");
        assert_eq!(admission.open(), 4);
        assert_eq!(admission.refused(), [1, 1, 1]);
    }

    #[test]
    fn a_64_is_one_source() {
        let admission = Arc::new(Admission::new(1, 100, 1));
        let _one = admission.admit(0, 100, "2001:db8::1".parse().ok()).expect("first");
        assert_eq!(admission.admit(0, 100, "2001:db8::2".parse().ok()).expect_err("same"), Refusal::Source);
        let _other = admission.admit(0, 100, "2001:db8:0:1::1".parse().ok()).expect("another /64");
    }
}
