//! The access log: one line a request, written without ever making a request wait.
//!
//! A worker formats the line into its own buffer (the lock is its own but for one swap in each
//! interval); a writer thread swaps the buffers and writes them. No line wakes another thread. A full buffer
//! drops the line and counts it.

mod escape;
mod format;
mod time;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use format::Record;
pub use writer::{FLUSH_INTERVAL, Writer, start};

use crate::config::log::AccessFormat;

/// Bytes of lines that one worker may hold before the writer takes them; further lines are dropped and counted.
pub const MAX_BUFFERED: usize = 4 << 20;

/// Where workers put their lines.
#[derive(Debug)]
pub struct AccessLog {
    shards: Box<[Mutex<Vec<u8>>]>,
    format: AccessFormat,
    path: Option<PathBuf>,
    is_on: bool,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    reopen: AtomicBool,
    closing: AtomicBool,
}

impl AccessLog {
    /// Whether lines go anywhere.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Writes one line. `worker` is the calling worker's index.
    pub fn record(&self, worker: usize, record: &Record<'_>) {
        if !self.is_on {
            return;
        }
        let Some(shard) = self.shards.get(worker % self.shards.len().max(1)) else { return };
        let mut buffer = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() >= MAX_BUFFERED {
            drop(buffer);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.format {
            AccessFormat::Json => record.write_json(&mut buffer),
            AccessFormat::Combined => record.write_combined(&mut buffer),
        }
    }

    /// Opens the file anew, after a log rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Lines dropped because a buffer was full, or because the file couldn't be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes the log's numbers.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (name, help, value) in [
            ("gateway_access_written_bytes_total", "Bytes of access log written.", &self.written),
            (
                "gateway_access_dropped_lines_total",
                "Lines dropped: the writer didn't keep up.",
                &self.dropped,
            ),
            ("gateway_access_failed_writes_total", "Writes that failed, each with its lines.", &self.failed),
        ] {
            let value = value.load(Ordering::Relaxed);
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
