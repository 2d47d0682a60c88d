//! One question to Redis for a key at a time: who comes meanwhile waits for the same answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::limits::table::Key;

/// Locks.
const SHARDS: usize = 16;
/// Most questions under way in a shard; beyond, a request is decided by its fallback.
const MAX_FLIGHTS_PER_SHARD: usize = 4096;

/// The questions under way.
pub(super) struct Flights {
    shards: Vec<Mutex<HashMap<Key, Arc<Flight>>>>,
}

/// A question under way.
pub(super) struct Flight {
    /// Never has a permit; it is closed when the answer is in.
    done: Semaphore,
    failed: AtomicBool,
}

/// What came of joining.
pub(super) enum Joined {
    /// Nobody asks yet: the caller must.
    Lead(Landing),
    /// Somebody does.
    Follow(Arc<Flight>),
    /// Too many questions are under way.
    Full,
}

impl Flights {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() })
    }

    pub(super) fn join(self: &Arc<Self>, key: Key) -> Joined {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(&key) {
            return Joined::Follow(Arc::clone(flight));
        }
        if shard.len() >= MAX_FLIGHTS_PER_SHARD {
            return Joined::Full;
        }
        let flight = Arc::new(Flight { done: Semaphore::new(0), failed: AtomicBool::new(true) });
        shard.insert(key, Arc::clone(&flight));
        Joined::Lead(Landing { flights: Arc::clone(self), key, flight })
    }

    fn shard(&self, key: Key) -> &Mutex<HashMap<Key, Arc<Flight>>> {
        &self.shards[key.fold() as usize % SHARDS]
    }
}

impl Flight {
    /// Waits for the answer; tells whether there was one.
    pub(super) async fn landed(&self) -> bool {
        // The only way out of this wait is that the semaphore is closed.
        let _ = self.done.acquire().await;
        self.succeeded()
    }

    /// Whether there was an answer, once it has landed.
    pub(super) fn succeeded(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }
}

/// A flight's work, done by whoever awaits this; dropped before it is done, it goes on as a task.
pub(super) struct Escort(pub(super) Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for Escort {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.0 else { return Poll::Ready(()) };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl Drop for Escort {
    fn drop(&mut self) {
        // Without a runtime, at the process's end, nobody waits for it.
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

/// Ends a flight when it is dropped, however its task ends.
pub(super) struct Landing {
    flights: Arc<Flights>,
    key: Key,
    flight: Arc<Flight>,
}

impl Landing {
    pub(super) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    pub(super) fn succeeded(&self) {
        self.flight.failed.store(false, Ordering::Release);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.shard(self.key).lock().remove(&self.key);
        self.flight.done.close();
    }
}
