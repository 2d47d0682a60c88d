//! Decides on requests: all limits that apply together, all or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

use super::clock::Clock;
use super::decision::{
    Decision, FromShared, Held, Holding, Permit, Persistence, Refusal, Report, Reports, Response, Standing,
};
use super::in_force::{Current, InForce};
use super::key::Secret;
use super::pending::{First, Pending};
use super::policy::{Kind, Limit, Places, Policy, RateLimit};
use super::redis::{From, Item, Looked, Question, Shared};
use super::request::{LimitRequest, Outcome};
use super::running::{Entered, Running};
use super::slot::{SECOND, Slot, Took, seconds};
use super::table::{Key, Mark, Row, Table};
use super::window::{Nanos, Verdict};
use crate::config::limits::{Action, Limits};

/// Most requests that are held back at a time (action `delay`); further ones are refused at once.
pub const MAX_DELAYED: usize = 4096;

/// The limits of this process.
#[derive(Clone)]
pub struct Limiter {
    pub(super) inner: Arc<Inner>,
}

/// What a check came to.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and its path allocates nothing"
)]
pub enum Check<'a> {
    /// A decision, without waiting.
    Done(Decision),
    /// Redis has to be asked, or the request is held back: await the decision.
    Pending(Box<Pending<'a>>),
}

pub(super) struct Inner {
    pub(super) policy: Current,
    pub(super) secret: Secret,
    pub(super) local: Table<Slot>,
    pub(super) shared: Option<Arc<Shared>>,
    pub(super) running: Running,
    pub(super) delayed: AtomicUsize,
    /// Where the next sweep goes on.
    pub(super) swept: AtomicUsize,
}

/// One go at a decision.
#[expect(clippy::large_enum_variant, reason = "as with a check: the large one is the usual one")]
pub(super) enum Attempt {
    Done(Decision),
    /// The limit has room for the request after this time, and its action is to hold back.
    Delay(Nanos, InForce),
    /// Redis has to be asked. In a box: a decision without it, which is the usual one, stays small.
    Ask(Box<Questions>, InForce),
}

pub(super) type Questions = SmallVec<[Question; 2]>;

/// When a request is decided, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Nanos,
    /// How long the request was held back so far.
    pub(super) waited: Duration,
    /// Whether Redis may be asked.
    pub(super) may_ask: bool,
}

/// What becomes of a request that a limit has no room for.
pub(super) enum Refused {
    Delay(Nanos),
    Told(Told),
}

/// A refusal before it is known how the limits stand.
pub(super) struct Told {
    pub(super) limit: Arc<str>,
    pub(super) response: Response,
    pub(super) retry_after: Duration,
    pub(super) offence: Option<Persistence>,
}

impl Told {
    pub(super) fn by(self, policy: InForce, reports: Reports, shadowed: u64) -> Refusal {
        let Self { limit, response, retry_after, offence } = self;
        Refusal { limit, response, retry_after, offence, standing: Standing { policy, reports, shadowed } }
    }
}

/// What was taken so far in an attempt.
#[derive(Debug, Clone, Copy)]
struct Taken {
    index: u16,
    key: Key,
    cost: u32,
    from: Option<From>,
    /// When, by the clock that decided.
    at: Nanos,
}

impl Limiter {
    /// Limits as configured, with nothing counted yet. `random` keys the hashes and must not be guessable. Where
    /// limits are kept in Redis this must run on a tokio runtime, which goes on carrying the tasks that ask it.
    pub fn new(limits: &Limits, random: [u64; 2]) -> Self {
        Self::with_clock(limits, random, Clock::start())
    }

    /// As [`Limiter::new`], with the clock that limits in Redis are spent by. Limits in memory go by each request's own
    /// `now`.
    pub fn with_clock(limits: &Limits, random: [u64; 2], clock: Clock) -> Self {
        tell(limits);
        let secret = Secret::new(random);
        let inner = Inner {
            policy: Current::new(Policy::new(limits, secret, None)),
            secret,
            local: Table::with_memory(limits.store.memory),
            shared: Shared::start(&limits.store, clock),
            running: Running::new(),
            delayed: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Puts other limits in place. Limits that count the same as before go on with their counters.
    pub fn reload(&self, limits: &Limits) {
        tell(limits);
        self.inner.policy.replace(|old| Policy::new(limits, self.inner.secret, Some(old)));
    }

    /// Whether Redis is asked now, or its breaker open; `None` where no Redis is configured.
    pub fn shared_usable(&self) -> Option<bool> {
        self.inner.shared.as_ref().map(|shared| shared.usable())
    }

    /// Whether any limit asks for the country or the autonomous system of the client's address: looking them up for
    /// nothing is dear.
    pub fn places(&self) -> Places {
        self.inner.policy.get().places
    }

    /// Decides on a request. Returns at once; a decision that has to wait is [`Check::Pending`].
    pub fn check<'a>(&self, request: &LimitRequest<'a>) -> Check<'a> {
        let in_force = self.inner.policy.get();
        let chosen = in_force.on_route(request.route);
        if chosen.plain
            && let [index] = chosen.limits[..]
        {
            return self.check_one(in_force, index, request);
        }
        self.check_any(in_force, request)
    }

    fn check_any<'a>(&self, in_force: InForce, request: &LimitRequest<'a>) -> Check<'a> {
        let moment = Moment { now: request.now, waited: Duration::ZERO, may_ask: self.inner.may_ask() };
        match self.inner.attempt(in_force, request, moment) {
            Attempt::Done(decision) => Check::Done(decision),
            Attempt::Delay(wait, policy) => self.pending(request, First::Delay(wait, Arc::clone(&policy))),
            Attempt::Ask(questions, policy) => {
                self.pending(request, First::Ask(questions, Arc::clone(&policy)))
            }
        }
    }

    #[cold]
    pub(super) fn pending<'a>(&self, request: &LimitRequest<'a>, first: First) -> Check<'a> {
        Check::Pending(Box::new(Pending::new(self.clone(), *request, first)))
    }

    /// Decides on a request, waiting where that is needed.
    pub async fn decide(&self, request: &LimitRequest<'_>) -> Decision {
        let pending = match self.check(request) {
            Check::Done(decision) => return decision,
            Check::Pending(pending) => pending,
        };
        pending.decide().await
    }
}

impl Inner {
    pub(super) fn may_ask(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.usable())
    }

    /// Decides, if that can be done without waiting. What is not decided has taken nothing.
    #[inline]
    pub(super) fn attempt(
        self: &Arc<Self>,
        in_force: InForce,
        request: &LimitRequest<'_>,
        moment: Moment,
    ) -> Attempt {
        let policy: &Arc<Policy> = &in_force;
        let chosen = policy.on_route(request.route);
        if chosen.plain {
            let limits = &chosen.limits;
            let plain = self.decide_plainly(policy, limits, request, moment);
            return plain.under(in_force, moment.now);
        }
        self.attempt_any(in_force, request, moment)
    }

    fn attempt_any(
        self: &Arc<Self>,
        in_force: InForce,
        request: &LimitRequest<'_>,
        moment: Moment,
    ) -> Attempt {
        let policy: &Arc<Policy> = &in_force;
        let chosen = policy.on_route(request.route);
        let now = moment.now;
        let mut taken: SmallVec<[Taken; 8]> = SmallVec::new();
        let mut reports = Reports::new();
        let mut shadowed = 0_u64;
        let mut questions = Questions::new();
        let mut refused = None;
        // Limits with the same way to tell clients apart stand together: their key is hashed once, and their row locked once.
        let mut last: (Option<u16>, Option<Key>) = (None, None);
        let mut row: Option<Row<'_, Slot>> = None;
        for limit in policy.at(&chosen.limits) {
            let Some(spec) = policy.specs.get(usize::from(limit.spec)) else { continue };
            if !limit.applies(request, &spec.key) {
                continue;
            }
            let clearances = policy.clearances.as_ref().filter(|_| limit.config.action == Action::Challenge);
            if clearances.is_some_and(|it| it.is_challenge(request)) {
                continue;
            }
            let cleared = clearances.and_then(|it| it.of(request));
            if last.0 != Some(limit.spec) {
                row = None;
                last = (Some(limit.spec), spec.key.hash(request, &self.secret, &spec.hashing));
            }
            let Some(base) = last.1 else { continue };
            // Who has passed a challenge has a quota of its own for it, on this node.
            let base = cleared.map_or(base, |nonce| self.secret.cleared(nonce));
            let key = base.salted(limit.salt);
            let index = limit.index;
            let cost = limit.cost(request);
            let (mut from, mut at) = (None, now);
            let took = match &limit.kind {
                Kind::Concurrency(most) => self.enter(key, *most),
                Kind::Rate(rate) if cost == 0 && !rate.settles => continue,
                Kind::Rate(rate) => {
                    match self.shared.as_ref().filter(|_| limit.is_shared() && cleared.is_none()) {
                        None => {
                            if row.as_ref().is_some_and(|row| !row.holds(base)) {
                                row = None;
                            }
                            let row = row.get_or_insert_with(|| self.local.row(base));
                            row.update(key, seconds(now), |slot| take(slot, limit, rate, now, cost))
                        }
                        Some(shared) => {
                            let item = Item { index, key, need: cost.max(1) };
                            match shared.look(limit, rate, key, cost, moment.may_ask) {
                                Looked::Decided { took, from: source, ahead, at: moment_there } => {
                                    (from, at) = (Some(source), moment_there);
                                    if ahead && moment.may_ask {
                                        let question = question(request, limit, policy, base, item);
                                        if let Some(question) = question {
                                            shared.ask_ahead(policy, question);
                                        }
                                    }
                                    took
                                }
                                Looked::Ask => {
                                    match questions.iter_mut().find(|q| q.base == base) {
                                        Some(question) => question.items.push(item),
                                        None => {
                                            questions.extend(question(request, limit, policy, base, item));
                                        }
                                    }
                                    continue;
                                }
                            }
                        }
                    }
                }
            };
            let verdict = took.verdict;
            if verdict.ok {
                reports.push(Report { index, remaining: verdict.remaining, reset: verdict.reset });
                taken.push(Taken { index, key, cost, from, at });
            } else if limit.is_shadow() {
                limit.metrics.shadowed.add();
                shadowed |= 1_u64.unbounded_shl(index.into());
            } else {
                row = None;
                for taken in &taken {
                    self.put_back(policy, taken, now);
                }
                reports.push(Report { index, remaining: verdict.remaining, reset: verdict.reset });
                let challenges = clearances.filter(|_| cleared.is_none());
                let response = challenges.map(|it| Response::Challenge(it.location(request)));
                refused = Some(self.refused(request, limit, took, moment, response));
                break;
            }
        }
        drop(row);
        match refused {
            Some(Refused::Delay(wait)) => return Attempt::Delay(wait, in_force),
            Some(Refused::Told(told)) => {
                return Attempt::Done(Decision::Refused(told.by(in_force, reports, shadowed)));
            }
            None => {}
        }
        if !questions.is_empty() {
            for taken in &taken {
                self.put_back(policy, taken, now);
            }
            return Attempt::Ask(Box::new(questions), in_force);
        }
        for (report, taken) in reports.iter().zip(&taken) {
            if let Some(limit) = policy.limits.get(usize::from(report.index)) {
                limit.metrics.allowed.add();
                if let Some(From::Lease(_)) = taken.from {
                    limit.metrics.leased.add();
                }
            }
        }
        let holding = self.holding(policy, request, &taken);
        let decided_at = taken.iter().map(|taken| taken.at).max().unwrap_or(now);
        let standing = Standing { policy: in_force, reports, shadowed };
        Attempt::Done(Decision::Allowed(Permit { standing, holding, decided_at }))
    }

    fn enter(&self, key: Key, most: u32) -> Took {
        let (ok, remaining) = match self.running.enter(key, most) {
            Entered::Counted { left } => (true, left),
            Entered::Uncounted => (true, 0),
            Entered::Full => (false, 0),
        };
        // When a place becomes free is not known: a second is the shortest that can be told.
        Took { verdict: Verdict { ok, remaining, reset: SECOND }, offence: None }
    }

    fn put_back(&self, policy: &Policy, taken: &Taken, now: Nanos) {
        let Some(limit) = policy.limits.get(usize::from(taken.index)) else { return };
        match &limit.kind {
            Kind::Concurrency(_) => self.running.leave(taken.key),
            Kind::Rate(rate) => match (&self.shared, taken.from) {
                (Some(shared), Some(from)) => shared.put_back(rate, taken.key, from, taken.at, taken.cost),
                _ => self.give_back(rate, taken.key, now, now, taken.cost),
            },
        }
    }

    pub(super) fn give_back(&self, rate: &RateLimit, key: Key, taken: Nanos, now: Nanos, cost: u32) {
        self.local.update(key, seconds(now), |slot| {
            slot.state.give_back(&rate.rule, taken, now, cost);
            let verdict = slot.state.peek(&rate.rule, now, 0);
            ((), slot.mark(rate, &verdict))
        });
    }

    fn holding(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        request: &LimitRequest<'_>,
        taken: &[Taken],
    ) -> Option<Holding> {
        let mut held: SmallVec<[Held; 2]> = SmallVec::new();
        for taken in taken {
            let Some(limit) = policy.limits.get(usize::from(taken.index)) else { continue };
            match &limit.kind {
                Kind::Concurrency(_) => held.push(Held::Place(taken.key)),
                Kind::Rate(rate) if rate.settles => {
                    let Taken { index, key, cost, from, at } = *taken;
                    let shared = from.map(|from| {
                        let text = match from {
                            From::Lease(_) => policy.specs.get(usize::from(limit.spec)),
                            From::Fallback => None,
                        };
                        let text = text.and_then(|spec| spec.key.redis_text(request));
                        Box::new(FromShared { from, text })
                    });
                    held.push(Held::Units { index, key, cost, at, shared });
                }
                Kind::Rate(_) => {}
            }
        }
        let holding = |held| Holding { held, policy: Arc::clone(policy), inner: Arc::clone(self) };
        (!held.is_empty()).then(|| holding(held))
    }

    pub(super) fn refused(
        &self,
        request: &LimitRequest<'_>,
        limit: &Limit,
        took: Took,
        moment: Moment,
        challenge: Option<Response>,
    ) -> Refused {
        let waited = moment.waited;
        let wait = Duration::from_nanos(took.verdict.reset);
        if let Action::Delay(most) = limit.config.action
            && waited + wait <= most
            && (!waited.is_zero() || self.delayed.load(Ordering::Relaxed) < MAX_DELAYED)
        {
            if waited.is_zero() {
                limit.metrics.delayed.add();
            }
            return Refused::Delay(took.verdict.reset);
        }
        limit.metrics.refused.add();
        let persistence = |refusals| Persistence {
            client: request.client,
            limit: Arc::clone(&limit.name),
            refusals,
            own: limit.own,
            ban: limit.config.action == Action::Ban,
            until_reset: wait,
        };
        let offence = took.offence.map(persistence);
        let response = challenge.unwrap_or(Response::TooManyRequests);
        Refused::Told(Told { limit: Arc::clone(&limit.name), response, retry_after: wait, offence })
    }

    /// Settles what a permit held, now that the answer is known.
    pub(super) fn settle(&self, policy: &Policy, held: Held, outcome: &Outcome<'_>, now: Nanos) {
        let (index, key, paid, at, from) = match held {
            Held::Place(key) => return self.running.leave(key),
            Held::Units { index, key, cost, at, shared } => {
                (index, key, cost, at, shared.map(|shared| *shared))
            }
        };
        let Some(limit) = policy.limits.get(usize::from(index)) else { return };
        let Kind::Rate(rate) = &limit.kind else { return };
        let cost = limit.final_cost(outcome, paid);
        let (less, more) = (paid.saturating_sub(cost), cost.saturating_sub(paid));
        match (&self.shared, from) {
            _ if less == 0 && more == 0 => {}
            (Some(shared), Some(FromShared { from: From::Lease(batch), text: Some(text) })) if less > 0 => {
                shared.give_back(limit, rate, key, &text, less, (at, batch.counted_us));
            }
            (Some(shared), Some(FromShared { from: From::Lease(_), text: Some(text) })) => {
                shared.charge(limit, rate, key, &text, more);
            }
            (Some(shared), Some(FromShared { from, .. })) => shared.put_back(rate, key, from, at, less),
            _ if less > 0 => self.give_back(rate, key, at, now, less),
            _ => self.local.update(key, seconds(now), |slot| {
                slot.state.charge(&rate.rule, now, more);
                let verdict = slot.state.peek(&rate.rule, now, 0);
                ((), slot.mark(rate, &verdict))
            }),
        }
    }

    /// Gives up what a permit held whose answer never became known: units stay counted.
    pub(super) fn release(&self, held: Held) {
        if let Held::Place(key) = held {
            self.running.leave(key);
        }
    }
}

/// Writes to the log what should be known of limits.
fn tell(limits: &Limits) {
    for notice in &limits.notices {
        tracing::warn!("{notice}");
    }
}

/// Takes from one key of a limit in memory.
pub(super) fn take(slot: &mut Slot, limit: &Limit, rate: &RateLimit, now: Nanos, cost: u32) -> (Took, Mark) {
    take_inlined(slot, limit, rate, now, cost)
}

#[inline(always)]
pub(super) fn take_inlined(
    slot: &mut Slot,
    limit: &Limit,
    rate: &RateLimit,
    now: Nanos,
    cost: u32,
) -> (Took, Mark) {
    // A request that is paid for afterwards needs room for one unit at least.
    let took = if cost > 0 || slot.state.peek(&rate.rule, now, 1).ok {
        slot.take(limit, rate, 1, now, cost)
    } else {
        Took { verdict: slot.state.peek(&rate.rule, now, 1), offence: slot.refuse(limit, rate, now) }
    };
    (took, slot.mark(rate, &took.verdict))
}

fn question(
    request: &LimitRequest<'_>,
    limit: &Limit,
    policy: &Policy,
    base: Key,
    item: Item,
) -> Option<Question> {
    let text = policy.specs.get(usize::from(limit.spec))?.key.redis_text(request)?;
    Some(Question { base, text, items: SmallVec::from_slice(&[item]) })
}
