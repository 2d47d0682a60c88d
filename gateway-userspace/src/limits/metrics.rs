//! What limits count about themselves.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one limit. On a cache line of its own: every request adds to one.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct LimitMetrics {
    /// Requests that the limit let through.
    pub allowed: Counter,
    /// Requests that it refused.
    pub refused: Counter,
    /// Requests that it would have refused, had it not been in shadow mode.
    pub shadowed: Counter,
    /// Requests that were held back.
    pub delayed: Counter,
    /// Requests decided from a lease, without asking Redis.
    pub leased: Counter,
    /// Requests decided by the fallback, because Redis could not be asked.
    pub fallback: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add(&self) {
        self.add_many(1);
    }

    /// Adds `n`.
    pub fn add_many(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl LimitMetrics {
    pub(super) fn rows(&self) -> [(&'static str, u64); 6] {
        [
            ("allowed", self.allowed.get()),
            ("refused", self.refused.get()),
            ("shadowed", self.shadowed.get()),
            ("delayed", self.delayed.get()),
            ("leased", self.leased.get()),
            ("fallback", self.fallback.get()),
        ]
    }
}

/// Writes a metric's head.
pub(super) fn head(out: &mut dyn Write, name: &str, kind: &str, help: &str) {
    // A writer of metrics is a buffer; what it says about errors is its own affair.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
