//! Listed networks on their way to the kernel: a thread of their own, for a million of them takes a while, and a ban
//! must not wait for it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{KernelError, RETRY, WriterState};
use crate::client::IpNetwork;

/// The hand on the kernel's lists. Called from one thread; a call may block for a while.
pub trait KernelLists: Send + 'static {
    /// Puts another set of listed networks in place of the one there, in one step: packets meet the
    /// old set or the new one, never a part. Sorted, no duplicates.
    ///
    /// # Errors
    /// The new set does not fit or can't be written; the old one stays.
    fn swap(&mut self, networks: &[IpNetwork]) -> Result<(), KernelError>;
}

#[derive(Debug, Default)]
struct Shelf {
    set: Option<Arc<[IpNetwork]>>,
    closed: bool,
}

/// Where the set that the kernel should have is left: the latest alone counts.
#[derive(Debug, Default)]
pub struct ListBox {
    shelf: Mutex<Shelf>,
    bell: Condvar,
}

impl ListBox {
    /// Leaves a set; sorted, no duplicates.
    pub fn put(&self, networks: Arc<[IpNetwork]>) {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).set = Some(networks);
        self.bell.notify_one();
    }

    /// Lets the thread end.
    pub fn close(&self) {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.bell.notify_one();
    }

    /// Waits for a set; none once it is closed.
    fn take(&self) -> Option<Arc<[IpNetwork]>> {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |s: &mut Shelf| s.set.is_none() && !s.closed;
        let mut shelf = self.bell.wait_while(shelf, quiet).unwrap_or_else(PoisonError::into_inner);
        shelf.set.take().filter(|_| !shelf.closed)
    }

    /// Waits, but not past the end, and not once there is a newer set.
    fn pause(&self, time: Duration) {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |s: &mut Shelf| s.set.is_none() && !s.closed;
        // Only the time matters: who comes next looks again.
        drop(self.bell.wait_timeout_while(shelf, time, quiet));
    }

    /// Leaves a set again that could not be written, where there is no newer one.
    fn put_back(&self, networks: Arc<[IpNetwork]>) {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).set.get_or_insert(networks);
    }
}

/// The thread's loop: runs until the box is closed. What the kernel refuses is tried again.
pub fn run(mut kernel: Box<dyn KernelLists>, shelf: &ListBox, state: &WriterState) {
    let mut wait = RETRY.0;
    state.report(&Ok(()));
    while let Some(networks) = shelf.take() {
        let result = kernel.swap(&networks);
        state.report(&result);
        if result.is_ok() {
            wait = RETRY.0;
            continue;
        }
        shelf.pause(wait);
        shelf.put_back(networks);
        wait = (wait * 2).min(RETRY.1);
    }
}
