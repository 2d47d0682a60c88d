//! Retries within a budget: when much fails, sending everything again would finish off what still stands.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a request adds, in tenths of a retry: one retry for five requests.
const EARNED: u64 = 2;
/// What a retry costs, in the same unit.
const COST: u64 = 10;
/// Most that is saved: a hundred retries.
const MAX_SAVED: u64 = 100 * COST;
/// What is there at the start: ten retries.
const INITIAL: u64 = 10 * COST;

/// The retries that an upstream may still make.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(INITIAL))
    }

    /// A request was sent for the first time.
    pub(super) fn earn(&self) {
        // Past the bound by a few when workers meet: no matter.
        if self.0.load(Ordering::Relaxed) < MAX_SAVED {
            self.0.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// Whether one more retry may be made; it is paid for then.
    pub(super) fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(COST)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests() {
        let budget = Budget::new();
        let retries = |n: usize| (0..n).filter(|_| budget.spend()).count();
        assert_eq!(retries(100), 10, "at the start");
        (0..50).for_each(|_| budget.earn());
        assert_eq!(retries(100), 10, "for fifty requests");
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!(retries(1000), 100, "at most");
    }
}
