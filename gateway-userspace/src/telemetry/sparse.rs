//! Log lines that an outsider can trigger, at a bounded rate.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Lets one line through in each interval and counts the rest, so that a flood of bad requests
/// can't become a flood of log lines.
///
/// ```
/// # use gateway::telemetry::Sparse;
/// # use std::time::Duration;
/// static SEEN: Sparse = Sparse::every(Duration::from_secs(10));
/// if let Some(suppressed) = SEEN.permit() {
///     eprintln!("bad request ({suppressed} like it since the last line)");
/// }
/// ```
#[derive(Debug)]
pub struct Sparse {
    interval_ms: u64,
    /// Milliseconds after the process's first line; 0: none yet.
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl Sparse {
    /// One line in each `interval`.
    pub const fn every(interval: Duration) -> Self {
        Self {
            interval_ms: interval.as_millis() as u64,
            next_ms: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether to write the line now, and how many were held back since the last one.
    pub fn permit(&self) -> Option<u64> {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        self.permit_at(START.get_or_init(Instant::now).elapsed().as_millis() as u64)
    }

    fn permit_at(&self, now_ms: u64) -> Option<u64> {
        let next = self.next_ms.load(Relaxed);
        if now_ms < next
            || self.next_ms.compare_exchange(next, now_ms + self.interval_ms, Relaxed, Relaxed).is_err()
        {
            self.suppressed.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_interval_and_the_rest_counted() {
        let sparse = Sparse::every(Duration::from_secs(1));
        for (now_ms, expected) in
            [(0, Some(0)), (1, None), (999, None), (1000, Some(2)), (1001, None), (9000, Some(1))]
        {
            assert_eq!(sparse.permit_at(now_ms), expected, "{now_ms}");
        }
    }
}
