//! The way offences take from the request path to the bans task: bounded, and never a wait.
//!
//! When the queue is full the offence is added to a count kept for its client and kind; when that
//! table is full or busy as well, the offence is dropped and counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::{Offence, OffenceKind};
use crate::client::ClientId;

/// Offences that wait for the task.
pub const QUEUE: usize = 8192;
/// Tables that a full queue spills into.
const SPILL_SHARDS: usize = 16;
/// Clients and kinds that one of them counts.
pub const SPILL_ENTRIES: usize = 512;

/// Offences merged by client and kind: the first of each, and how many.
type Spill = HashMap<(ClientId, OffenceKind), (Offence, u32)>;

/// The sending side.
#[derive(Debug)]
pub struct Queue {
    sender: mpsc::Sender<Offence>,
    spill: [Mutex<Spill>; SPILL_SHARDS],
    keys: RandomState,
    /// Offences that were merged into a count.
    pub merged: AtomicU64,
    /// Offences that were dropped.
    pub dropped: AtomicU64,
}

impl Queue {
    /// The two ends.
    pub fn new(bound: usize) -> (Self, mpsc::Receiver<Offence>) {
        let (sender, receiver) = mpsc::channel(bound);
        let queue = Self {
            sender,
            spill: Default::default(),
            keys: RandomState::new(),
            merged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        (queue, receiver)
    }

    /// Hands an offence on. Never waits.
    pub fn push(&self, offence: Offence) {
        let offence = match self.sender.try_send(offence) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(offence) | mpsc::error::TrySendError::Closed(offence)) => {
                offence
            }
        };
        let key = (offence.client, offence.kind);
        let shard = self.keys.hash_one(key) as usize % SPILL_SHARDS;
        let counter = match self.spill[shard].try_lock() {
            Ok(mut spill) => {
                let full = spill.len() >= SPILL_ENTRIES;
                match spill.entry(key) {
                    Entry::Occupied(mut entry) => {
                        let (_, count) = entry.get_mut();
                        *count = count.saturating_add(1);
                        &self.merged
                    }
                    Entry::Vacant(entry) if !full => {
                        entry.insert((offence, 1));
                        &self.merged
                    }
                    Entry::Vacant(_) => &self.dropped,
                }
            }
            Err(_) => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes what was spilled: an offence of each client and kind, and how many there were.
    pub fn take_spilled(&self) -> Vec<(Offence, u32)> {
        let mut all = Vec::new();
        for spill in &self.spill {
            if let Ok(mut spill) = spill.lock()
                && !spill.is_empty()
            {
                all.extend(std::mem::take(&mut *spill).into_values());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offence(host: u32) -> Offence {
        Offence {
            at_ms: 1,
            client: ClientId::direct(std::net::Ipv4Addr::from(host).into()),
            kind: OffenceKind::Limit,
            weight: 1,
            rules: Vec::new(),
            subject: None,
            request_id: None,
            ja4: None,
        }
    }

    #[test]
    fn a_full_queue_counts_and_a_full_table_drops() {
        let (queue, mut receiver) = Queue::new(2);
        for _ in 0..12 {
            queue.push(offence(1));
        }
        assert_eq!(queue.take_spilled(), [(offence(1), 10)]);
        assert_eq!(queue.take_spilled(), []);
        let clients = (SPILL_SHARDS * SPILL_ENTRIES) as u32 * 2;
        for host in 0..clients {
            queue.push(offence(host));
        }
        let spilled = queue.take_spilled().len() as u64;
        let dropped = queue.dropped.load(Ordering::Relaxed);
        assert!(spilled <= (SPILL_SHARDS * SPILL_ENTRIES) as u64);
        assert_eq!(spilled + dropped, u64::from(clients), "each is counted, or counted as dropped");
        assert_eq!(queue.merged.load(Ordering::Relaxed), 10 + spilled);
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok() && receiver.try_recv().is_err());
    }
}
