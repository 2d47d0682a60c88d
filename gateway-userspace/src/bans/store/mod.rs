//! What was decided, on disk: nothing decided is lost, and nothing waits for the disk.
//!
//! A change is first appended to a journal with one `write(2)` and no sync: that survives the death
//! of the process, and costs microseconds. A thread commits what gathers to a redb database every
//! [`COMMIT_EVERY`], synced, and deletes the journal it covers: that survives the death of the
//! machine. At the start the database is read and journals left over are put into it.

mod database;
mod encoded;
mod journal;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::ledger::{Change, Ended};
use super::{Decision, DecisionId};
use crate::client::IpNetwork;
use database::Database;
use encoded::Encoded;
use journal::Journal;

/// How long changes gather before they are committed.
pub const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// Most changes that wait in memory for a commit. Past it they wait in the journal, which is then
/// kept until the next start.
pub const MAX_WAITING: usize = 250_000;
/// How often old rows are pruned.
const PRUNE_EVERY: Duration = Duration::from_hours(1);
/// First and longest wait after a commit that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How long ended decisions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Whole.
    pub named: Duration,
    /// At all.
    pub at_all: Duration,
}

/// One change, as the journal has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A decision holds.
    Began(Arc<Decision>),
    /// A decision holds no longer.
    Ended(Arc<Ended>),
    /// An operator allowed a network.
    Allow(IpNetwork),
    /// An operator took it off the list.
    Disallow(IpNetwork),
    /// Ended decisions are forgotten on demand.
    Erase(Vec<(u64, DecisionId)>),
}

impl From<&Change> for Op {
    fn from(change: &Change) -> Self {
        match change {
            Change::Began(decision) => Self::Began(decision.clone()),
            Change::Ended(ended) => Self::Ended(ended.clone()),
        }
    }
}

/// The store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or file is out of reach.
    #[error("`bans.database` {path}: {error}. Give the gateway a folder that it may write.")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it open.
    #[error("`bans.database` {0} is open in another process: two gateways can't share one file.")]
    InUse(PathBuf),
    /// A later version wrote it.
    #[error(
        "`bans.database` {path} has schema {found}, this version knows {known}: run the newer version, or name another file."
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema in the file.
        found: u64,
        /// The schema of this version.
        known: u64,
    },
    /// The database refuses.
    #[error("`bans.database`: {0}")]
    Database(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// What lies before a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// Nothing that the database knows: it is new, or the one before was damaged.
    #[default]
    Unknown,
    /// A process that closed the database.
    Closed,
    /// A process that was killed.
    Killed,
}

/// What a start found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What lies before it.
    pub before: Before,
    /// Decisions that held when the process ended.
    pub held: Vec<Arc<Decision>>,
    /// Ended decisions, the oldest first.
    pub ended: Vec<Arc<Ended>>,
    /// The operators' allowlist.
    pub allow: Vec<IpNetwork>,
    /// A damaged file was renamed to this, and a new one begun.
    pub set_aside: Option<PathBuf>,
    /// Rows that could not be read and were left out.
    pub unreadable: u64,
    /// Changes that came from journals.
    pub replayed: u64,
}

/// How the store fares; for metrics and status.
#[derive(Debug, Default)]
pub struct StoreState {
    /// Whether the last append and commit worked.
    pub healthy: AtomicBool,
    /// Changes committed.
    pub committed: AtomicU64,
    /// Appends and commits that failed.
    pub failures: AtomicU64,
}

#[derive(Debug)]
struct Inbox {
    journal: Journal,
    waiting: Vec<Encoded>,
    /// How many changes they are.
    count: usize,
    /// Changes are in the journal that were not kept in memory.
    incomplete: bool,
    closed: bool,
}

/// The way into the store.
#[derive(Debug)]
pub struct Store {
    inbox: Mutex<Inbox>,
    bell: Condvar,
    state: StoreState,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens or makes the database, replays journals, and starts the committing thread.
    /// Ended decisions lose their address, and later go, as `keep` says.
    ///
    /// # Errors
    /// The file can't be used. A damaged one is no error: it is set aside.
    pub fn open(path: &Path, keep: Keep, clock: Arc<dyn Clock>) -> Result<(Arc<Self>, Loaded), StoreError> {
        let io = |error| StoreError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let is_new = !path.exists();
        let (mut database, mut loaded) = database::open(path, clock.now_ms())?;
        let leftover = journal::replay(path).map_err(io)?;
        let before = match (is_new || loaded.set_aside.is_some(), leftover.files.is_empty()) {
            (true, _) => Before::Unknown,
            (false, true) => Before::Closed,
            (false, false) => Before::Killed,
        };
        if !leftover.ops.is_empty() {
            loaded.replayed = leftover.ops.len() as u64;
            database.commit(&[Encoded::new(leftover.ops).map_err(io)?])?;
            let (unreadable, set_aside) = (loaded.unreadable, loaded.set_aside.take());
            loaded = Loaded { replayed: loaded.replayed, set_aside, ..database.load()? };
            loaded.unreadable = loaded.unreadable.max(unreadable);
        }
        loaded.before = before;
        for file in &leftover.files {
            std::fs::remove_file(file).map_err(io)?;
        }
        let inbox = Inbox {
            journal: Journal::create(path, leftover.next).map_err(io)?,
            waiting: Vec::new(),
            count: 0,
            incomplete: false,
            closed: false,
        };
        let state = StoreState { healthy: AtomicBool::new(true), ..StoreState::default() };
        let store = Arc::new(Self {
            inbox: Mutex::new(inbox),
            bell: Condvar::new(),
            state,
            committer: Mutex::new(None),
        });
        let committer = store.clone();
        let thread = std::thread::Builder::new()
            .name("bans-store".into())
            .spawn(move || committer.commit_all(database, keep, &*clock))
            .map_err(io)?;
        *store.committer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok((store, loaded))
    }

    /// Journals changes; when this returns they outlive the process.
    pub fn append(&self, ops: Vec<Op>) {
        let encoded = Encoded::new(ops);
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let written = encoded.and_then(|encoded| {
            let written = inbox.journal.append(encoded.lines());
            if inbox.count + encoded.len() <= MAX_WAITING {
                inbox.count += encoded.len();
                inbox.waiting.push(encoded);
            } else {
                inbox.incomplete = true;
            }
            written
        });
        if let Err(error) = written {
            self.state.failures.fetch_add(1, Ordering::Relaxed);
            if self.state.healthy.swap(false, Ordering::Relaxed) {
                tracing::error!(%error, "the journal of decisions can't be written: they hold, but a crash would lose them");
            }
        }
        drop(inbox);
        self.bell.notify_one();
    }

    /// Commits what is there and closes the database; blocks until then.
    pub fn close(&self) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.bell.notify_one();
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread panicked; what it had not committed is in the journal");
        }
    }

    /// How the store fares.
    pub fn state(&self) -> &StoreState {
        &self.state
    }

    /// Waits for changes; takes them and goes over to the next journal, made beforehand: whoever appends never waits
    /// for the file system to make a file.
    fn take(&self, spare: &mut Option<Journal>) -> (Vec<Encoded>, Option<PathBuf>, bool) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |inbox: &mut Inbox| inbox.waiting.is_empty() && !inbox.closed;
        let (inbox, _) =
            self.bell.wait_timeout_while(inbox, PRUNE_EVERY, quiet).unwrap_or_else(PoisonError::into_inner);
        let (database, number) = inbox.journal.next();
        drop(inbox);
        if spare.is_none() {
            *spare = Journal::create(&database, number)
                .map_err(|error| tracing::error!(%error, "a new journal can't be begun"))
                .ok();
        }
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let ops = std::mem::take(&mut inbox.waiting);
        inbox.count = 0;
        let covered = if ops.is_empty() || inbox.incomplete {
            None
        } else {
            spare.take().map(|next| std::mem::replace(&mut inbox.journal, next).path())
        };
        (ops, covered, inbox.closed)
    }

    fn commit_all(&self, mut database: Database, keep: Keep, clock: &dyn Clock) {
        let mut pruned_at = std::time::Instant::now();
        let mut spare = None;
        loop {
            let (ops, covered, closed) = self.take(&mut spare);
            let done = self.commit(&mut database, &ops, closed);
            if let Some(journal) = covered.filter(|_| done)
                && let Err(error) = std::fs::remove_file(&journal)
            {
                tracing::warn!(%error, journal = %journal.display(), "a journal can't be deleted");
            }
            if closed {
                let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
                if inbox.waiting.is_empty() {
                    inbox.journal.delete_if_empty();
                    if let Some(mut spare) = spare {
                        spare.delete_if_empty();
                    }
                    return;
                }
                continue;
            }
            if pruned_at.elapsed() >= PRUNE_EVERY {
                pruned_at = std::time::Instant::now();
                let before = |age: Duration| clock.now_ms().saturating_sub(age.as_millis() as u64);
                let kept =
                    database.prune(before(keep.at_all)).and_then(|()| database.anonymise(before(keep.named)));
                if let Err(error) = kept {
                    tracing::warn!(%error, "old decisions can't be pruned");
                }
            }
            std::thread::sleep(COMMIT_EVERY);
        }
    }

    /// Commits, and tries again until it works or the store is closed.
    fn commit(&self, database: &mut Database, ops: &[Encoded], closed: bool) -> bool {
        if ops.is_empty() {
            return true;
        }
        let mut wait = RETRY.0;
        loop {
            let Err(error) = database.commit(ops) else {
                self.state.healthy.store(true, Ordering::Relaxed);
                let count: usize = ops.iter().map(Encoded::len).sum();
                self.state.committed.fetch_add(count as u64, Ordering::Relaxed);
                return true;
            };
            self.state.failures.fetch_add(1, Ordering::Relaxed);
            if self.state.healthy.swap(false, Ordering::Relaxed) {
                tracing::error!(%error, "decisions can't be committed: they stay in the journal");
            }
            if closed || self.inbox.lock().unwrap_or_else(PoisonError::into_inner).closed {
                return false;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY.1);
        }
    }
}

#[cfg(test)]
mod tests;
