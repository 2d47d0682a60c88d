//! How a server does: requests in flight, failures in a row, and whether it is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::h2::Streams;
use super::pool::Pool;
use super::probe::Probes;
use super::resolve::Resolved;
use crate::config::edge::Server;

/// A server with its state.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) server: Server,
    /// What the server is in hashes: the same for the same address, whatever else is configured.
    pub(super) seed: u64,
    pub(super) resolved: Resolved,
    pub(super) pool: Pool,
    pub(super) streams: Streams,
    pub(super) probes: Probes,
    pub(super) in_flight: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    in_a_row: AtomicU64,
    /// Milliseconds after `epoch`; 0: not left out.
    out_until: AtomicU64,
    epoch: Instant,
}

impl Backend {
    pub(super) fn new(server: Server, workers: usize, max_idle: usize, idle_timeout: Duration) -> Self {
        Self {
            seed: super::balance::hash(server.address.as_bytes()),
            resolved: Resolved::new(&server.address),
            server,
            pool: Pool::new(workers, max_idle, idle_timeout),
            streams: Streams::new(workers),
            probes: Probes::new(),
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            out_until: AtomicU64::new(0),
            epoch: Instant::now(),
        }
    }

    /// Whether requests may go there.
    pub(super) fn is_healthy(&self) -> bool {
        if self.probes.is_down() {
            return false;
        }
        match self.out_until.load(Ordering::Relaxed) {
            0 => true,
            until => self.millis() >= until,
        }
    }

    /// It answered.
    pub(super) fn succeeded(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
            self.out_until.store(0, Ordering::Relaxed);
        }
    }

    /// It didn't: after `max_failures` in a row it is left out for `pause`. 0 never leaves it out.
    pub(super) fn failed(&self, max_failures: u64, pause: Duration) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if max_failures != 0 && in_a_row >= max_failures {
            let was = self.out_until.swap(self.millis() + pause.as_millis() as u64, Ordering::Relaxed);
            if was == 0 {
                tracing::warn!(server = %self.server.address, failures = in_a_row, ?pause, "server left out");
            }
        }
    }

    /// A place for one request, unless `max` are in flight.
    pub(super) fn enter(self: &Arc<Self>, max: u64) -> Option<InFlight> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= max {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        Some(InFlight(Arc::clone(self)))
    }

    fn millis(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64 + 1
    }
}

/// One request in flight at a server; over on drop.
#[derive(Debug)]
pub(super) struct InFlight(pub(super) Arc<Backend>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
