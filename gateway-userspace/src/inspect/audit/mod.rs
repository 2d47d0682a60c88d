//! What matched, written down: the audit log, and a line in the daemon's log for each match.
//!
//! A worker renders the record (it has the transaction) and puts it into a bounded queue; a thread of its own
//! writes. A full queue drops and counts: no request ever waits for a disk or for whoever reads the log.

mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};

use gateway_waf::record::{self, audit};
use gateway_waf::{AuditFormat, Ruleset, Transaction};

use crate::config::waf::Waf;

pub use writer::{AuditWriter, start};

/// Records and lines that wait to be written; further ones are dropped and counted.
pub const MAX_QUEUED: usize = 8192;
/// Bytes of records that wait to be written; further ones are dropped and counted.
pub const MAX_QUEUED_BYTES: u64 = 64 << 20;
/// Most lines in the daemon's log for one request.
pub const MAX_LINES: usize = 32;

/// Where records go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The file: of the records, or of the index when each has a file of its own.
    pub log: Option<PathBuf>,
    /// Lines in the daemon's log a second, for matches; 0: none.
    pub lines_a_second: u32,
}

impl Target {
    /// What the configuration says, and where it says nothing, the rules' `SecAuditLog`.
    pub fn of(waf: &Waf, ruleset: &Ruleset) -> Self {
        let of_rules = || ruleset.settings().audit_log.as_ref().map(PathBuf::from);
        Self { log: waf.audit_log.clone().or_else(of_rules), lines_a_second: waf.log_matches }
    }
}

/// What the writer is told.
enum Item {
    /// There is a wish besides: to reopen, or to close.
    Look,
    /// A line for the daemon's log.
    Line(String),
    /// A record for the file.
    Record(String),
    /// A record with a file of its own, and its line in the index.
    Own { path: PathBuf, text: String, index: String },
}

impl Item {
    fn len(&self) -> u64 {
        let len = match self {
            Self::Look => 0,
            Self::Line(text) | Self::Record(text) => text.len(),
            Self::Own { text, index, .. } => text.len() + index.len(),
        };
        len as u64
    }
}

/// The way to the writer.
pub struct AuditLog {
    queue: SyncSender<Item>,
    queued_bytes: AtomicU64,
    target: Mutex<Target>,
    has_file: AtomicBool,
    has_lines: AtomicBool,
    reopen: AtomicBool,
    closing: AtomicBool,
    records: AtomicU64,
    lines: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its start, nanoseconds since 1970.
    pub began_unix_nanos: u64,
    /// Its end, nanoseconds since 1970.
    pub ended_unix_nanos: u64,
    /// The status that the client got.
    pub status: u16,
}

impl AuditLog {
    /// Writes down a transaction after its logging phase, as far as rules and settings want it.
    pub(super) fn take(&self, transaction: &mut Transaction, ended: Ended) {
        if self.has_lines.load(Relaxed) && transaction.matches().iter().any(|m| m.log) {
            for line in record::lines(transaction, ended.status, MAX_LINES) {
                self.tell(Item::Line(line));
            }
        }
        if self.has_file.load(Relaxed) && transaction.is_for_audit() {
            // Rendering costs more than everything else here: not for a queue that is full.
            if self.queued_bytes.load(Relaxed) >= MAX_QUEUED_BYTES {
                self.dropped.fetch_add(1, Relaxed);
                return;
            }
            let item = render(transaction, ended);
            self.tell(item);
        }
    }

    fn tell(&self, item: Item) {
        let len = item.len();
        if self.queued_bytes.fetch_add(len, Relaxed) + len > MAX_QUEUED_BYTES
            || self.queue.try_send(item).is_err()
        {
            self.queued_bytes.fetch_sub(len, Relaxed);
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Opens the file anew, after a log rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        self.ring();
    }

    /// Has the writer look for wishes.
    fn ring(&self) {
        // A full queue keeps it awake: it looks before each item.
        let _full = self.queue.try_send(Item::Look);
    }

    /// Takes another target, and opens its file anew.
    pub fn set(&self, target: Target) {
        self.has_lines.store(target.lines_a_second > 0, Relaxed);
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.reopen();
    }

    /// Records and lines dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Writes the log's numbers.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (name, help, value) in [
            ("gateway_audit_records_total", "Records written to the audit log.", &self.records),
            ("gateway_audit_lines_total", "Lines in the log for rules that matched.", &self.lines),
            ("gateway_audit_dropped_total", "Records and lines dropped: the queue was full.", &self.dropped),
            ("gateway_audit_failed_total", "Records that could not be written.", &self.failed),
        ] {
            let value = value.load(Relaxed);
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("target", &self.target).finish_non_exhaustive()
    }
}

fn render(transaction: &mut Transaction, ended: Ended) -> Item {
    let context = audit::RecordContext {
        unix_nanos: ended.began_unix_nanos,
        utc_offset_seconds: 0,
        producer: concat!("gateway/", env!("CARGO_PKG_VERSION")),
        status: ended.status,
    };
    let record = audit::Record::new(transaction, &context);
    let settings = transaction.ruleset().settings();
    let text = match settings.audit_format {
        AuditFormat::Json => {
            // Strings and numbers only: there is nothing that fails.
            serde_json::to_string(&record).unwrap_or_default() + "\n"
        }
        AuditFormat::Native => record.native(&boundary(&record)),
    };
    let own = settings.audit_type.as_deref().is_some_and(|t| t.eq_ignore_ascii_case("concurrent"));
    match settings.audit_storage_dir.as_ref().filter(|_| own) {
        None => Item::Record(text),
        Some(folder) => {
            let path = PathBuf::from(folder).join(record.path());
            let index = record.index_line(&path.display().to_string(), text.len()) + "\n";
            Item::Own { path, text, index }
        }
    }
}

/// Eight digits that a client can't foresee, so that no body can forge a part.
fn boundary(record: &audit::Record) -> String {
    use std::hash::{BuildHasher, RandomState};
    static KEY: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
    let hash = KEY.get_or_init(RandomState::new).hash_one(&*record.transaction.unique_id);
    format!("{:08x}", hash as u32)
}
