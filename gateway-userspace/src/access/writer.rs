//! The thread that writes the lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::AccessLog;
use crate::config::log::{AccessTarget, Log};

/// How often lines are written.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The writer thread. Dropping it writes what is left.
#[derive(Debug)]
pub struct Writer {
    log: Arc<AccessLog>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the log and starts its writer, for `workers` workers.
///
/// # Errors
/// When the file can't be opened or the thread not started.
pub fn start(config: &Log, workers: usize) -> io::Result<(Arc<AccessLog>, Writer)> {
    let path = match &config.access {
        AccessTarget::File(path) => Some(path.clone()),
        AccessTarget::Off | AccessTarget::Stdout => None,
    };
    let target: Option<Box<dyn Write + Send>> = match &config.access {
        AccessTarget::Off => None,
        AccessTarget::Stdout => Some(Box::new(io::stdout())),
        AccessTarget::File(path) => Some(Box::new(open(path)?)),
    };
    let log = Arc::new(AccessLog {
        shards: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
        format: config.access_format,
        path,
        is_on: target.is_some(),
        written: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        reopen: AtomicBool::new(false),
        closing: AtomicBool::new(false),
    });
    let thread = match target {
        None => None,
        Some(target) => {
            let log = Arc::clone(&log);
            Some(std::thread::Builder::new().name("access-log".to_owned()).spawn(move || run(&log, target))?)
        }
    };
    Ok((Arc::clone(&log), Writer { log, thread }))
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}. Check [log] access.", path.display())))
}

fn run(log: &AccessLog, mut target: Box<dyn Write + Send>) {
    let mut batch = Vec::new();
    loop {
        // Read before the last swap: lines recorded before closing are written.
        let closing = log.closing.load(Ordering::Acquire);
        if log.reopen.swap(false, Ordering::Relaxed)
            && let Some(path) = &log.path
        {
            match open(path) {
                Ok(file) => target = Box::new(file),
                Err(e) => tracing::error!("the access log stays in its old file: {e}"),
            }
        }
        for shard in &log.shards {
            batch.clear();
            std::mem::swap(&mut batch, &mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            if batch.is_empty() {
                continue;
            }
            match target.write_all(&batch).and_then(|()| target.flush()) {
                Ok(()) => {
                    log.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
                Err(_) => {
                    log.failed.fetch_add(1, Ordering::Relaxed);
                    let lines = memchr::memchr_iter(b'\n', &batch).count() as u64;
                    log.dropped.fetch_add(lines, Ordering::Relaxed);
                }
            }
            if batch.capacity() > 1 << 20 {
                batch = Vec::new();
            }
        }
        if closing {
            return;
        }
        std::thread::park_timeout(FLUSH_INTERVAL);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.closing.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
