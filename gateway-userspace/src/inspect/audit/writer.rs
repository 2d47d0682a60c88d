//! The thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{AuditLog, Item, MAX_QUEUED, Target};

/// The writer thread. Dropping it writes what is left.
#[derive(Debug)]
pub struct AuditWriter {
    log: Arc<AuditLog>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the file and starts the writer.
///
/// # Errors
/// When the file can't be opened or the thread not started.
pub fn start(target: Target) -> io::Result<(Arc<AuditLog>, AuditWriter)> {
    let file = target.log.as_deref().map(open).transpose()?;
    let (queue, items) = sync_channel(MAX_QUEUED);
    let log = Arc::new(AuditLog {
        queue,
        queued_bytes: AtomicU64::new(0),
        has_file: AtomicBool::new(file.is_some()),
        has_lines: AtomicBool::new(target.lines_a_second > 0),
        target: Mutex::new(target),
        reopen: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        records: AtomicU64::new(0),
        lines: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let state = State { log: Arc::clone(&log), file, second: Instant::now(), lines: 0, held_back: 0 };
    let thread =
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || run(state, &items))?;
    Ok((Arc::clone(&log), AuditWriter { log, thread: Some(thread) }))
}

/// Bodies and credentials stand in it: for its owner alone.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|e| {
        let reason = format!("{}: {e}. Check [waf] audit_log and SecAuditLog.", path.display());
        io::Error::new(e.kind(), reason)
    })
}

struct State {
    log: Arc<AuditLog>,
    file: Option<File>,
    second: Instant,
    lines: u32,
    held_back: u64,
}

fn run(mut state: State, items: &Receiver<Item>) {
    loop {
        // Read before the last look at the queue: what was told before closing is written.
        let closing = state.log.closing.load(Acquire);
        if state.log.reopen.swap(false, Relaxed) {
            state.reopen();
        }
        let item = if closing { items.try_recv().ok() } else { items.recv().ok() };
        match item {
            Some(item) => state.write(item),
            None => return,
        }
    }
}

impl State {
    fn target(&self) -> Target {
        self.log.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reopen(&mut self) {
        let Some(path) = self.target().log else {
            self.file = None;
            self.log.has_file.store(false, Relaxed);
            return;
        };
        match open(&path) {
            Ok(file) => {
                self.file = Some(file);
                self.log.has_file.store(true, Relaxed);
            }
            Err(e) => tracing::error!("the audit log stays as it was: {e}"),
        }
    }

    fn write(&mut self, item: Item) {
        self.log.queued_bytes.fetch_sub(item.len(), Relaxed);
        let done = match item {
            Item::Look => return,
            Item::Line(line) => return self.line(&line),
            Item::Record(text) => self.append(&text),
            Item::Own { path, text, index } => own_file(&path, &text).and_then(|()| self.append(&index)),
        };
        match done {
            Ok(()) => self.log.records.fetch_add(1, Relaxed),
            Err(e) => {
                if self.log.failed.fetch_add(1, Relaxed).is_power_of_two() {
                    tracing::error!("a record of the audit log can't be written: {e}");
                }
                0
            }
        };
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        match &mut self.file {
            // One write a record: lines of two processes don't mix.
            Some(file) => file.write_all(text.as_bytes()),
            None => Ok(()),
        }
    }

    /// A line for the daemon's log, unless this second had its share.
    fn line(&mut self, line: &str) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            if self.held_back > 0 {
                tracing::warn!("{} more lines for rules that matched were left out", self.held_back);
            }
            (self.second, self.lines, self.held_back) = (Instant::now(), 0, 0);
        }
        if self.lines >= self.target().lines_a_second {
            self.held_back += 1;
            return;
        }
        self.lines += 1;
        self.log.lines.fetch_add(1, Relaxed);
        tracing::warn!("{line}");
    }
}

/// A record's own file below the storage folder. It never replaces one that is there.
fn own_file(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

impl Drop for AuditWriter {
    fn drop(&mut self) {
        self.log.closing.store(true, Release);
        self.log.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
