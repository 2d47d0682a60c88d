//! Keeps the kernel's bans what the ledger says: batches, retries, re-assertion, reconciliation.
//!
//! The bans task puts what changed into a [`Mailbox`] that keeps one wish a network, the latest:
//! it can't grow past the ledger and the task never waits. A thread of its own takes the wishes and
//! writes them through a [`KernelWriter`]; system calls and their stalls stay off the runtimes. A few
//! bans take a [`Shortcut`] first. Lists have a thread of their own, in [`lists`].

mod desired;
pub(super) mod lists;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Origin;
use super::clock::Clock;
use crate::client::IpNetwork;
pub use desired::{Desired, SAME_END_MS};
pub use lists::KernelLists;

/// Most changes in one batch.
pub const MAX_BATCH: usize = 4096;
/// How far ahead the kernel's own expiry is set at most; a longer ban is re-asserted before.
pub const MAX_KERNEL_TTL_MS: u64 = 30 * 24 * 3_600_000;
/// How often kernel and ledger are compared.
pub const RECONCILE: Duration = Duration::from_mins(1);
/// First and longest wait after a failed write.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Who decided a ban, as far as the kernel records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BanReason {
    /// A scenario on this node.
    Local = 1,
    /// An operator.
    Operator = 2,
    /// Another node.
    Peer = 3,
    /// CrowdSec.
    CrowdSec = 4,
    /// A list.
    Feed = 5,
}

impl From<&Origin> for BanReason {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Local => Self::Local,
            Origin::Operator => Self::Operator,
            Origin::Peer(_) => Self::Peer,
            Origin::CrowdSec => Self::CrowdSec,
            Origin::Feed(_) => Self::Feed,
        }
    }
}

/// One change of the kernel's bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanChange {
    /// Drop this network until then; what is there already is overwritten.
    Add {
        /// Whom.
        network: IpNetwork,
        /// Until when, in Unix milliseconds; at most [`MAX_KERNEL_TTL_MS`] ahead.
        until_unix_ms: u64,
        /// By whom.
        reason: BanReason,
    },
    /// Drop this network no longer; what is not there is no error.
    Remove {
        /// Whom.
        network: IpNetwork,
    },
}

/// A ban that the kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelBan {
    /// Whom.
    pub network: IpNetwork,
    /// Until when, in Unix milliseconds.
    pub until_unix_ms: u64,
    /// By whom, as the kernel has it.
    pub reason: BanReason,
}

/// The kernel refused a change; it will be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's bans can't be changed: {0}")]
pub struct KernelError(pub String);

/// The hand on the kernel's maps. Implemented over the kernel module, and in memory by tests.
/// Called from one thread; a call may block for a while.
pub trait KernelWriter: Send + 'static {
    /// Makes a batch of at most [`MAX_BATCH`] changes, in order. After an error any part of it may
    /// have been made: the same changes come again.
    ///
    /// # Errors
    /// A change could not be made.
    fn apply(&mut self, batch: &[BanChange]) -> Result<(), KernelError>;

    /// Every ban that the kernel holds, those that lapsed left out.
    ///
    /// # Errors
    /// The maps can't be read.
    fn list(&mut self) -> Result<Vec<KernelBan>, KernelError>;

    /// Another hand on the same bans, for the thread that decides; none: there is none.
    fn shortcut(&self) -> Option<Box<dyn Shortcut>> {
        None
    }
}

/// Makes a few bans right on the thread that decides, where nobody else is at the tables. The writer is told of them
/// all the same and makes them again: this only makes them earlier.
pub trait Shortcut: Send + 'static {
    /// Makes these bans without a wait, or doesn't.
    fn try_ban(&mut self, bans: &[BanChange]);
}

/// A wish for one network: until when (`u64::MAX`: for ever) and why; none: not at all.
pub type Wish = Option<(u64, BanReason)>;

#[derive(Debug, Default)]
struct Mail {
    wishes: HashMap<IpNetwork, Wish>,
    closed: bool,
}

/// Where the bans task leaves what the kernel should hold.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    bell: Condvar,
}

impl Mailbox {
    /// Leaves wishes; a later one for the same network stands in for the earlier.
    pub fn put(&self, wishes: impl IntoIterator<Item = (IpNetwork, Wish)>) {
        self.lay(wishes);
        self.ring();
    }

    /// Leaves wishes without waking the writer: who is about to use the shortcut does so before.
    pub fn lay(&self, wishes: impl IntoIterator<Item = (IpNetwork, Wish)>) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).wishes.extend(wishes);
    }

    /// Wakes the writer.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Takes the wishes that are there.
    fn wishes(&self) -> HashMap<IpNetwork, Wish> {
        std::mem::take(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner).wishes)
    }

    /// Lets the writer's thread write what is there and end.
    pub fn close(&self) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.bell.notify_one();
    }

    /// Waits for mail at most `patience`.
    fn take(&self, patience: Duration) -> Mail {
        let mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |m: &mut Mail| m.wishes.is_empty() && !m.closed;
        let (mut mail, _) =
            self.bell.wait_timeout_while(mail, patience, quiet).unwrap_or_else(PoisonError::into_inner);
        let closed = mail.closed;
        std::mem::replace(&mut *mail, Mail { closed, ..Mail::default() })
    }
}

/// How the writer fares; for metrics and status.
#[derive(Debug, Default)]
pub struct WriterState {
    /// Whether the last call to the kernel worked.
    pub healthy: AtomicBool,
    /// Changes written.
    pub written: AtomicU64,
    /// Calls that failed.
    pub failures: AtomicU64,
    /// Differences between kernel and ledger that reconciliation found and mended.
    pub mended: AtomicU64,
    /// Bans that the kernel should hold now.
    pub wanted: AtomicU64,
    last_error: Mutex<Option<Arc<str>>>,
}

impl WriterState {
    /// What the kernel said last when it refused; none while all is well.
    pub fn last_error(&self) -> Option<Arc<str>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn report(&self, result: &Result<(), KernelError>) {
        let was_healthy = self.healthy.swap(result.is_ok(), Ordering::Relaxed);
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => *last = None,
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if was_healthy {
                    tracing::error!(%error, "what the kernel refuses is kept and tried again");
                }
                *last = Some(error.to_string().into());
            }
        }
    }
}

/// The writer's loop: runs until the mailbox is closed.
pub fn run(mut kernel: Box<dyn KernelWriter>, mailbox: &Mailbox, state: &WriterState, clock: &dyn Clock) {
    let mut desired = Desired::default();
    // What was restored is in the kernel already, for the most part: comparing tells what is not.
    desired.assume(mailbox.wishes());
    let mut next_reconcile = Instant::now();
    let mut retry = RETRY.0;
    let mut retry_at: Option<Instant> = None;
    state.healthy.store(true, Ordering::Relaxed);
    loop {
        let wake = retry_at.unwrap_or(next_reconcile);
        let patience = wake.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let mail = mailbox.take(patience);
        let news = !mail.wishes.is_empty();
        desired.accept(mail.wishes);
        desired.reassert(clock.now_ms());
        let due = retry_at.is_none_or(|at| at <= Instant::now());
        let work = desired.has_work();
        if due || news || mail.closed {
            let reconcile = next_reconcile <= Instant::now();
            if work || reconcile {
                let result = write(&mut *kernel, &mut desired, mailbox, reconcile, state, clock.now_ms());
                state.report(&result);
                match result {
                    Ok(()) => {
                        (retry, retry_at) = (RETRY.0, None);
                        if reconcile {
                            next_reconcile = Instant::now() + RECONCILE;
                        }
                    }
                    Err(_) => {
                        retry_at = Some(Instant::now() + retry);
                        next_reconcile = next_reconcile.max(Instant::now() + retry);
                        retry = (retry * 2).min(RETRY.1);
                    }
                }
            }
        }
        state.wanted.store(desired.len() as u64, Ordering::Relaxed);
        if mail.closed {
            return;
        }
    }
}

fn write(
    kernel: &mut dyn KernelWriter,
    desired: &mut Desired,
    mailbox: &Mailbox,
    reconcile: bool,
    state: &WriterState,
    now_ms: u64,
) -> Result<(), KernelError> {
    if reconcile {
        let held = kernel.list()?;
        // What came by the shortcut meanwhile stands in the list: its wish was laid down before.
        desired.accept(mailbox.wishes());
        let mended = desired.compare(&held, now_ms);
        state.mended.fetch_add(mended, Ordering::Relaxed);
    }
    while let Some(batch) = desired.next_batch(now_ms) {
        kernel.apply(&batch)?;
        state.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
        desired.written(&batch);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
