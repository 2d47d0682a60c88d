//! Idle connections, kept apart for each worker: a connection stays with the event loop it was made on,
//! and the lock around a shard is taken by its own worker only (and by metrics).

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;

/// How often a worker looks for connections that are idle for too long.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pool {
    shards: Box<[Mutex<Vec<Idle>>]>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    since: Instant,
    connection: Connection,
}

impl Pool {
    pub(super) fn new(workers: usize, max_idle: usize, idle_timeout: Duration) -> Self {
        Self { shards: (0..workers.max(1)).map(|_| Mutex::default()).collect(), max_idle, idle_timeout }
    }

    pub(super) fn workers(&self) -> usize {
        self.shards.len()
    }

    /// The connection used last: the others may fall idle for good.
    pub(super) fn take(&self, worker: usize) -> Option<Connection> {
        let mut shard = self.shards.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut idle) = shard.pop() {
            if idle.since.elapsed() < self.idle_timeout && idle.connection.is_alive() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; closes it when there are enough.
    pub(super) fn put(&self, worker: usize, mut connection: Connection) {
        let Some(shard) = self.shards.get(worker) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() < self.max_idle {
            connection.rest();
            shard.push(Idle { since: Instant::now(), connection });
        }
    }

    pub(super) fn sweep(&self, worker: usize) {
        if let Some(shard) = self.shards.get(worker) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain_mut(|idle| idle.since.elapsed() < self.idle_timeout && idle.connection.is_alive());
        }
    }

    /// Closes idle connections to addresses that are not the server's any more.
    pub(super) fn leave(&self, stays: impl Fn(SocketAddr) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|idle| idle.connection.peer.is_none_or(&stays));
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}
