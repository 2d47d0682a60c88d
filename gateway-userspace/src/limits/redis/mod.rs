//! Limits that several gateways share through Redis or Valkey.
//!
//! All limits of one client stand in one key and are decided by one script ([`script`], `limits.lua`). A node takes
//! units in chunks and spends them by itself while their lease lasts ([`lease`]); what Redis refused is
//! remembered until it may be different. Beside its leases a node keeps the count of what it admitted itself: no node
//! admits more than the whole quota, and while Redis cannot be asked ([`link`]), its share of it.
//!
//! Every moment that counts here is read from the store's clock under the lock of the key: between a request's own
//! `now` and its turn the thread may not run for longer than a lease lasts.

mod connect;
mod flight;
mod lease;
mod link;
mod script;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

pub(super) use lease::Batch;
use smallvec::SmallVec;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use flight::{Escort, Flights, Joined, Landing};
use lease::{Holding, Lease};
use link::Link;
use script::{Arguments, Grant, Wanted, answer};

use super::clock::Clock;
use super::metrics::{Counter, head};
use super::policy::{Kind, Limit, Policy, RateLimit};
use super::slot::{SECOND, Slot, Took, seconds};
use super::table::{Key, Mark, Occupancy, Table};
use super::window::{Nanos, Verdict};
use crate::config::limits::{Fallback, LimitStore};

/// Corrections (units given back, costs known afterwards) on their way to Redis at a time; further ones are lost, which
/// leaves units counted, or a cost uncounted.
pub const MAX_CORRECTIONS: usize = 1024;
/// Keys whose lease somebody waits for at a time, to give back what was not spent; of further ones it lapses.
pub const MAX_RETURNS: usize = 4096;

/// What this node knows of one shared key.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    slot: Slot,
    lease: Lease,
}

/// The shared store.
pub(super) struct Shared {
    table: Table<Node>,
    clock: Clock,
    link: Arc<Link>,
    flights: Arc<Flights>,
    corrections: Arc<Semaphore>,
    returns: Arc<Semaphore>,
    returned: Counter,
    lost_corrections: Counter,
    full: Counter,
}

/// Where units came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Lease(Batch),
    Fallback,
}

/// What came of looking here.
pub(super) enum Looked {
    Decided {
        took: Took,
        from: From,
        ahead: bool,
        /// When, by the store's clock.
        at: Nanos,
    },
    Ask,
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) at: Instant,
    /// Whether that is the deadline of a command that is sent now.
    pub(super) is_deadline: bool,
}

/// A question for the limits of one client.
pub(super) struct Question {
    /// The client's key before any limit's salt.
    pub(super) base: Key,
    /// The client's key in Redis.
    pub(super) text: String,
    pub(super) items: SmallVec<[Item; 4]>,
}

/// One limit in a question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) index: u16,
    pub(super) key: Key,
    pub(super) need: u32,
}

impl Shared {
    /// The store that is configured, if one is. Must run on a tokio runtime, which goes on carrying its tasks.
    pub(super) fn start(store: &LimitStore, clock: Clock) -> Option<Arc<Self>> {
        let redis = store.redis.as_ref()?;
        Some(Arc::new(Self {
            table: Table::with_memory(store.memory),
            clock,
            link: Link::start(redis),
            flights: Flights::new(),
            corrections: Arc::new(Semaphore::new(MAX_CORRECTIONS)),
            returns: Arc::new(Semaphore::new(MAX_RETURNS)),
            returned: Counter::default(),
            lost_corrections: Counter::default(),
            full: Counter::default(),
        }))
    }

    /// Whether Redis may be asked now.
    pub(super) fn usable(&self) -> bool {
        self.link.usable()
    }

    /// Longest that a request waits for Redis.
    pub(super) fn deadline(&self) -> Duration {
        self.link.deadline()
    }

    /// Decides from what is here: a lease, a denial that was remembered, and with `may_ask` false the fallback.
    pub(super) fn look(&self, limit: &Limit, rate: &RateLimit, key: Key, cost: u32, may_ask: bool) -> Looked {
        let nodes = self.link.nodes();
        let mut row = self.table.row(key);
        let now = self.clock.now();
        row.update(key, seconds(now), |node| {
            // A request that is paid for afterwards needs room for one unit at least.
            let looked = match node.lease.look(rate.rule.window(), now, cost.max(1)) {
                Holding::Here { ahead } => {
                    let mut took = node.slot.take(limit, rate, 1, now, cost);
                    let mut batch = Batch::default();
                    if took.verdict.ok {
                        batch = node.lease.spend(cost);
                        let there = node.lease.left_there.saturating_add(node.lease.in_hand(now));
                        took.verdict.remaining = took.verdict.remaining.min(there);
                    }
                    Looked::Decided { took, from: From::Lease(batch), ahead, at: now }
                }
                Holding::Denied { wait } => {
                    let verdict = Verdict { ok: false, remaining: node.lease.left_there, reset: wait };
                    let took = Took { verdict, offence: node.slot.refuse(limit, rate, now) };
                    Looked::Decided { took, from: From::Lease(Batch::default()), ahead: false, at: now }
                }
                Holding::Unknown if may_ask => Looked::Ask,
                Holding::Unknown => {
                    node.lease.not_asked(cost.max(1));
                    let took = fall_back(&mut node.slot, limit, rate, nodes, now, cost);
                    Looked::Decided { took, from: From::Fallback, ahead: false, at: now }
                }
            };
            let verdict = match &looked {
                Looked::Decided { took, .. } => took.verdict,
                Looked::Ask => node.slot.state.peek(&rate.rule, now, 0),
            };
            let mark = node.mark(rate, &verdict);
            (looked, mark)
        })
    }

    /// Puts back units that were taken at `taken`: of a request that another limit refused, or whose answer does not
    /// count.
    pub(super) fn put_back(&self, rate: &RateLimit, key: Key, from: From, taken: Nanos, cost: u32) {
        self.change(rate, key, |node, now| {
            node.slot.state.give_back(&rate.rule, taken, now, cost);
            if let From::Lease(batch) = from {
                node.lease.put_back(batch, now, cost);
            }
        });
    }

    /// Asks ahead of need, in the background, unless somebody does already.
    pub(super) fn ask_ahead(self: &Arc<Self>, policy: &Arc<Policy>, question: Question) {
        if let Joined::Lead(landing) = self.join(&question) {
            tokio::spawn(Arc::clone(self).fly(Arc::clone(policy), question, landing));
        }
    }

    /// Asks, unless somebody does already, and waits for the answer until then; tells whether there was one. Dropped, it goes on in
    /// the background: what Redis grants is not lost when the request that asked goes away.
    pub(super) async fn ask(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        question: Question,
        until: Until,
    ) -> bool {
        match self.join(&question) {
            Joined::Full => false,
            Joined::Follow(flight) => timeout_at(until.at, flight.landed()).await.unwrap_or(false),
            Joined::Lead(landing) => {
                let flight = Arc::clone(landing.flight());
                let work = Arc::clone(self).fly(Arc::clone(policy), question, landing);
                // Run by this request itself: a task of its own would be one more to wake.
                let escort = Escort(Some(Box::pin(work)));
                if until.is_deadline {
                    // The command has just that for its own.
                    escort.await;
                } else if timeout_at(until.at, escort).await.is_err() {
                    return false;
                }
                flight.succeeded()
            }
        }
    }

    fn join(&self, question: &Question) -> Joined {
        let joined = self.flights.join(question.base);
        if let Joined::Full = joined {
            self.full.add();
        }
        joined
    }

    async fn fly(self: Arc<Self>, policy: Arc<Policy>, question: Question, landing: Landing) {
        let mut arguments = Arguments::take(self.link.prefix(), &question.text);
        let items: SmallVec<[(Item, &Limit, &RateLimit); 4]> =
            question.items.iter().filter_map(|item| resolve(&policy, *item)).collect();
        for (item, limit, rate) in &items {
            let (want, divisor) = if rate.settles {
                // What may have to be given back one by one is taken one by one.
                (item.need, 1)
            } else {
                let want = self.change(rate, item.key, |node, now| {
                    node.lease.wanted(rate.rule.window(), now, item.need, rate.rule.capacity())
                });
                (want, self.link.nodes() * 2)
            };
            arguments.limit(limit, rate, Wanted { need: item.need, want, divisor });
        }
        // From here on leases run: before Redis can have counted them.
        let sent = self.clock.now();
        let Ok(value) = self.link.run(&arguments).await else { return };
        let Some(answer) = answer(&value, items.len()) else {
            tracing::debug!("limits: Redis answered what the script does not");
            return;
        };
        for ((item, _, rate), grant) in items.iter().zip(&answer.grants) {
            if self.land(rate, *item, grant, sent, answer.now_us)
                && let Ok(place) = Arc::clone(&self.returns).try_acquire_owned()
            {
                let back = Arc::clone(&self).return_lapsed(Arc::clone(&policy), question.text.clone(), *item);
                self.change(rate, item.key, |node, _| node.lease.returning = true);
                tokio::spawn(async move {
                    back.await;
                    drop(place);
                });
            }
        }
        landing.succeeded();
    }

    /// Takes in what Redis said of a limit; tells whether somebody should wait for the lease's end.
    fn land(&self, rate: &RateLimit, item: Item, grant: &Grant, sent: Nanos, counted_us: u64) -> bool {
        let window = rate.rule.window();
        self.change(rate, item.key, |node, _| {
            if grant.lacked {
                node.lease.denied(window, sent, item.need, grant.left, grant.wait);
            } else if grant.units > 0 {
                node.lease.granted(window, sent, grant.units, grant.left, counted_us);
            }
            // Where most of the quota is free, nobody misses what lapses.
            let scarce = grant.left < rate.rule.capacity() / 2;
            scarce && grant.units > item.need && !node.lease.returning
        })
    }

    /// Waits until the lease of a key is over, and tells Redis of the units that were not spent.
    async fn return_lapsed(self: Arc<Self>, policy: Arc<Policy>, text: String, item: Item) {
        let Some((_, limit, rate)) = resolve(&policy, item) else { return };
        loop {
            let (lapsed, wait) = self.change(rate, item.key, |node, now| {
                let lapsed = node.lease.take_lapsed(now);
                let wait =
                    if node.lease.in_hand(now) > 0 { node.lease.ends().saturating_sub(now) } else { 0 };
                node.lease.returning = wait > 0;
                (lapsed, wait)
            });
            if let Some((units, counted_us)) = lapsed {
                self.returned.add_many(units.into());
                self.tell_back(limit, rate, &text, units, counted_us);
            }
            if wait == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_nanos(wait)).await;
        }
    }

    /// Tells Redis, in the background, that units taken at `counted_us` count no more.
    pub(super) fn give_back(
        self: &Arc<Self>,
        limit: &Limit,
        rate: &RateLimit,
        key: Key,
        text: &str,
        units: u32,
        (taken, counted_us): (Nanos, u64),
    ) {
        self.change(rate, key, |node, now| node.slot.state.give_back(&rate.rule, taken, now, units));
        self.tell_back(limit, rate, text, units, counted_us);
    }

    fn tell_back(self: &Arc<Self>, limit: &Limit, rate: &RateLimit, text: &str, units: u32, counted_us: u64) {
        // Of a server that has lost them they would be taken from what others spent since.
        if self.link.remembers(counted_us) {
            let mut arguments = Arguments::give(self.link.prefix(), text);
            arguments.back(limit, rate, units, counted_us);
            self.correct(arguments);
        }
    }

    /// Tells Redis, in the background, of units that were spent beyond those taken.
    pub(super) fn charge(
        self: &Arc<Self>,
        limit: &Limit,
        rate: &RateLimit,
        key: Key,
        text: &str,
        units: u32,
    ) {
        self.change(rate, key, |node, now| node.slot.state.charge(&rate.rule, now, units));
        let mut arguments = Arguments::take(self.link.prefix(), text);
        arguments.limit(limit, rate, Wanted { need: 0, want: units, divisor: 1 });
        self.correct(arguments);
    }

    fn correct(self: &Arc<Self>, arguments: Arguments) {
        let Ok(permit) = Arc::clone(&self.corrections).try_acquire_owned() else {
            return self.lost_corrections.add();
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if shared.link.run(&arguments).await.is_err() {
                shared.lost_corrections.add();
            }
            drop(permit);
        });
    }

    /// What Redis says is left of a key's limits: units left and time until more, in the order given.
    pub(super) async fn show(
        &self,
        text: &str,
        limits: &[(&Limit, &RateLimit)],
    ) -> Result<Vec<(u32, Nanos)>, String> {
        let mut arguments = Arguments::show(self.link.prefix(), text);
        for (limit, rate) in limits {
            arguments.limit(limit, rate, Wanted { need: 0, want: 0, divisor: 1 });
        }
        let value = self.link.run(&arguments).await.map_err(|e| e.to_string())?;
        let answer = answer(&value, limits.len()).ok_or("Redis answered what the script does not")?;
        Ok(answer.grants.iter().map(|grant| (grant.left, grant.wait)).collect())
    }

    /// Forgets all that Redis and this node know of a client's key.
    pub(super) async fn reset(&self, text: &str, keys: &[Key]) -> Result<(), String> {
        for key in keys {
            self.table.remove(*key);
        }
        self.link.forget(text).await.map_err(|e| e.to_string())
    }

    /// How full the table of shared keys is.
    pub(super) fn occupancy(&self) -> Occupancy {
        self.table.occupancy()
    }

    /// Frees memory; see [`Table::sweep`].
    pub(super) fn sweep(&self, now: Nanos, from: usize, sets: usize) -> usize {
        self.table.sweep(seconds(now), from, sets)
    }

    /// Writes the store's metrics.
    pub(super) fn write_metrics(&self, out: &mut dyn Write) {
        self.link.write_metrics(out);
        let counters = [
            ("corrections_lost_total", "Corrections that did not reach Redis.", &self.lost_corrections),
            ("units_returned_total", "Leased units that were not spent, given back.", &self.returned),
            ("questions_full_total", "Requests decided by fallback for too many questions.", &self.full),
        ];
        for (name, help, counter) in counters {
            let name = format!("gateway_limits_redis_{name}");
            head(out, &name, "counter", help);
            let _ = writeln!(out, "{name} {}", counter.get());
        }
    }

    fn change<R>(&self, rate: &RateLimit, key: Key, change: impl FnOnce(&mut Node, Nanos) -> R) -> R {
        let mut row = self.table.row(key);
        let now = self.clock.now();
        row.update(key, seconds(now), |node| {
            let result = change(node, now);
            let verdict = node.slot.state.peek(&rate.rule, now, 0);
            let mark = node.mark(rate, &verdict);
            (result, mark)
        })
    }
}

impl Node {
    fn mark(&self, rate: &RateLimit, verdict: &Verdict) -> Mark {
        let mark = self.slot.mark(rate, verdict);
        Mark { expires_s: mark.expires_s.max(seconds(self.lease.expires()).saturating_add(1)), ..mark }
    }
}

fn resolve(policy: &Policy, item: Item) -> Option<(Item, &Limit, &RateLimit)> {
    let limit = policy.limits.get(usize::from(item.index))?;
    match &limit.kind {
        Kind::Rate(rate) => Some((item, limit, rate)),
        Kind::Concurrency(_) => None,
    }
}

/// Decides without Redis, as the limit's rule says.
fn fall_back(slot: &mut Slot, limit: &Limit, rate: &RateLimit, nodes: u32, now: Nanos, cost: u32) -> Took {
    limit.metrics.fallback.add();
    match rate.fallback {
        Fallback::Local => slot.take(limit, rate, nodes, now, cost),
        Fallback::Open => {
            slot.state.charge(&rate.rule, now, cost);
            let verdict = Verdict { ok: true, ..slot.state.peek(&rate.rule, now, 0) };
            Took { verdict, offence: None }
        }
        Fallback::Closed => {
            let verdict = Verdict { ok: false, remaining: 0, reset: SECOND };
            Took { verdict, offence: None }
        }
    }
}
