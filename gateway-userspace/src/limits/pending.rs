//! Decisions that have to wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::decision::Decision;
use super::limiter::{Attempt, Inner, Limiter};
use super::policy::Policy;
use super::request::LimitRequest;
use super::window::Nanos;

/// A decision that has to wait.
pub struct Pending<'a> {
    limiter: Limiter,
    policy: Arc<Policy>,
    request: &'a LimitRequest<'a>,
    wait: Nanos,
}

impl<'a> Pending<'a> {
    pub(super) fn new(
        limiter: Limiter,
        policy: Arc<Policy>,
        request: &'a LimitRequest<'a>,
        wait: Nanos,
    ) -> Self {
        Self { limiter, policy, request, wait }
    }

    /// Waits for the decision: at most the limit's `delay_max`. Dropping the future takes nothing.
    pub async fn decide(self) -> Decision {
        let inner = &self.limiter.inner;
        let _place = Place::new(inner);
        let started = Instant::now();
        let mut wait = self.wait;
        loop {
            tokio::time::sleep(Duration::from_nanos(wait)).await;
            let waited = started.elapsed();
            let now = self.request.now + waited.as_nanos() as Nanos;
            match inner.attempt(&self.policy, self.request, now, waited) {
                Attempt::Done(decision) => return decision,
                // Somebody else was faster. Each round waits a millisecond at least, so that rounds are bounded.
                Attempt::Delay(more) => wait = more.max(1_000_000),
            }
        }
    }
}

/// A place among the requests that are held back.
struct Place<'a>(&'a Inner);

impl<'a> Place<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.delayed.fetch_add(1, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.delayed.fetch_sub(1, Ordering::Relaxed);
    }
}
