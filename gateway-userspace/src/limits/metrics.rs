//! What limits count about themselves.

use std::cell::Cell;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::limiter::Limiter;
use super::slot::seconds;
use super::table::Occupancy;
use super::window::Nanos;

/// Counters of one limit. On a cache line of its own: every request adds to one.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct LimitMetrics {
    /// Requests that the limit let through.
    pub allowed: Striped,
    /// Requests that it refused.
    pub refused: Counter,
    /// Requests that it would have refused, had it not been in shadow mode.
    pub shadowed: Counter,
    /// Requests that were held back.
    pub delayed: Counter,
    /// Requests decided from a lease, without asking Redis.
    pub leased: Striped,
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

/// Threads that have a part of a [`Striped`] counter to themselves, but for the first part: that is for all further ones.
const STRIPES: usize = 32;

/// As [`Counter`], for what every worker adds to all the time: each adds to a cache line of its own, which takes no
/// locked instruction.
#[derive(Debug, Default)]
pub struct Striped([Line; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line(Counter);

impl Striped {
    /// Adds one.
    #[inline]
    pub fn add(&self) {
        // Zero until the thread has been given one: no constructor has to be looked for each time.
        thread_local!(static STRIPE: Cell<usize> = const { Cell::new(0) });
        let stripe = STRIPE.with(|stripe| {
            if stripe.get() == 0 {
                static NEXT: AtomicUsize = AtomicUsize::new(1);
                stripe.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            stripe.get()
        });
        match self.0.get(stripe) {
            // Nobody else writes there.
            Some(Line(own)) => own.0.store(own.get() + 1, Ordering::Relaxed),
            None => self.0[0].0.add(),
        }
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|line| line.0.get()).sum()
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

impl Limiter {
    /// Writes the limits' metrics in Prometheus' text format.
    pub fn metrics(&self, out: &mut dyn Write) {
        let policy = self.inner.policy.get();
        let name = "gateway_limits_requests_total";
        head(
            out,
            name,
            "counter",
            "Decisions by limit and outcome; leased and fallback are also counted as such.",
        );
        for limit in &policy.limits {
            for (outcome, count) in limit.metrics.rows() {
                let _ = writeln!(out, "{name}{{limit=\"{}\",outcome=\"{outcome}\"}} {count}", limit.name);
            }
        }
        let mut tables = vec![("local", self.inner.local.occupancy())];
        tables.extend(self.inner.shared.as_ref().map(|shared| ("redis", shared.occupancy())));
        type Field = (&'static str, &'static str, fn(&Occupancy) -> u64, &'static str);
        let fields: [Field; 4] = [
            ("keys", "gauge", |o| o.entries, "Keys held in memory."),
            ("keys_max", "gauge", |o| o.capacity, "Most keys that can be held."),
            ("memory_bytes", "gauge", |o| o.bytes, "Memory of the keys."),
            ("evicted_total", "counter", |o| o.evicted, "Keys pushed out while they still counted."),
        ];
        for (field, kind, value, help) in fields {
            let name = format!("gateway_limits_{field}");
            head(out, &name, kind, help);
            for (store, occupancy) in &tables {
                let _ = writeln!(out, "{name}{{store=\"{store}\"}} {}", value(occupancy));
            }
        }
        let delayed = self.inner.delayed.load(Ordering::Relaxed);
        head(out, "gateway_limits_delayed_now", "gauge", "Requests held back now.");
        let _ = writeln!(out, "gateway_limits_delayed_now {delayed}");
        head(out, "gateway_limits_uncounted_total", "counter", "Concurrent requests let through uncounted.");
        let _ = writeln!(out, "gateway_limits_uncounted_total {}", self.inner.running.uncounted.get());
        if let Some(shared) = &self.inner.shared {
            shared.write_metrics(out);
        }
    }

    /// Frees the memory of keys past their time: call about once a second from the control side. Each call looks at
    /// a hundredth of the table at most and holds no lock for longer than one lookup.
    pub fn sweep(&self, now: Nanos) {
        let at = self.inner.swept.load(Ordering::Relaxed);
        let buckets = self.inner.local.buckets() / 100 + 1;
        let next = self.inner.local.sweep(seconds(now), at, buckets);
        if let Some(shared) = &self.inner.shared {
            shared.sweep(now, at, buckets);
        }
        self.inner.swept.store(next, Ordering::Relaxed);
    }
}
