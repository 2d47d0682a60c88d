//! Decisions that have to wait: for Redis, within the deadline, or because a limit holds the request back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::decision::Decision;
use super::in_force::InForce;
use super::limiter::{Attempt, Inner, Limiter, Moment, Questions};
use super::policy::Policy;
use super::redis::Until;
use super::request::LimitRequest;
use super::window::Nanos;

/// Most times that one request asks Redis, when others always take what came.
const MAX_ROUNDS: usize = 8;

/// A decision that has to wait.
pub struct Pending<'a> {
    limiter: Limiter,
    request: LimitRequest<'a>,
    first: First,
    since: Instant,
}

/// What the first attempt came to, for whichever thread goes on with it.
pub(super) enum First {
    Delay(Nanos, Arc<Policy>),
    Ask(Box<Questions>, Arc<Policy>),
}

impl<'a> Pending<'a> {
    pub(super) fn new(limiter: Limiter, request: LimitRequest<'a>, first: First) -> Self {
        Self { limiter, request, first, since: Instant::now() }
    }

    /// Waits for the decision: for Redis at most the store's deadline, and held back at most the limit's `delay_max`.
    /// Dropping the future leaves nothing taken, but for units that Redis granted and that lapse with their lease.
    pub async fn decide(self: Box<Self>) -> Decision {
        let Self { limiter, request, first, since } = *self;
        let inner = &limiter.inner;
        let deadline = inner.shared.as_ref().map_or(Duration::ZERO, |shared| shared.deadline());
        let (mut next, mut waited, mut rounds) = (first, Duration::ZERO, 0);
        let mut redis_until = since + deadline;
        let mut place = None;
        loop {
            let mut may_ask = true;
            let policy: Arc<Policy> = match next {
                First::Delay(wait, policy) => {
                    if place.is_none() {
                        place = Some(Place::new(inner));
                    }
                    // Somebody else may be faster. Each round waits a millisecond at least, so that rounds are bounded.
                    let wait = Duration::from_nanos(wait.max(1_000_000));
                    tokio::time::sleep(wait).await;
                    waited += wait;
                    redis_until = Instant::now() + deadline;
                    policy
                }
                First::Ask(questions, policy) => {
                    rounds += 1;
                    let until = Until { at: redis_until, is_deadline: rounds == 1 };
                    may_ask = ask(inner, &policy, *questions, until).await && rounds < MAX_ROUNDS;
                    policy
                }
            };
            let may_ask = may_ask && inner.may_ask();
            let moment = Moment { now: later(request.now, since), waited, may_ask };
            next = match inner.attempt(InForce::of(policy), &request, moment) {
                Attempt::Done(decision) => return decision,
                Attempt::Delay(wait, policy) => First::Delay(wait, Arc::clone(&policy)),
                Attempt::Ask(questions, policy) => First::Ask(questions, Arc::clone(&policy)),
            };
        }
    }
}

/// Asks all questions at once; tells whether all were answered in time.
async fn ask(inner: &Arc<Inner>, policy: &Arc<Policy>, mut questions: Questions, until: Until) -> bool {
    let Some(shared) = &inner.shared else { return false };
    // Nearly always it is one.
    let Some(first) = questions.pop() else { return true };
    let rest: SmallVec<[JoinHandle<bool>; 2]> = questions
        .into_iter()
        .map(|question| {
            let (shared, policy) = (Arc::clone(shared), Arc::clone(policy));
            tokio::spawn(async move { shared.ask(&policy, question, until).await })
        })
        .collect();
    let mut answered = shared.ask(policy, first, until).await;
    for other in rest {
        answered &= other.await.unwrap_or(false);
    }
    answered
}

/// Now, by the clock of a request that was at `then` when `since` was taken.
fn later(then: Nanos, since: Instant) -> Nanos {
    then + since.elapsed().as_nanos() as Nanos
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
