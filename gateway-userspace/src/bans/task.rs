//! The bans task: the one owner of engine and rates. Everything else asks it.
//!
//! Each turn takes offences, questions or the tick, and hands what changed on in this order:
//! bans to the kernel, everything to the store's journal, releases to the kernel, the view of layer 7,
//! the cluster. A ban never waits for a disk, and a release is written down before it takes effect:
//! what a killed process leaves in the kernel alone is a ban, and is taken in at the next start.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::crowdsec::Followed;
use super::denied::Denied;
use super::engine::Engine;
use super::feed::FeedSet;
use super::ledger::{Change, Ledger};
use super::queue::Queue;
use super::store::{Op, Store};
use super::traffic::{Rates, TURN_MS, Traffic};
use super::writer::lists::ListBox;
use super::writer::{BanChange, BanReason, MAX_KERNEL_TTL_MS, Mailbox, Shortcut, Wish, WriterState};
use super::{Decision, Offence, Scope};
use crate::client::IpNetwork;

/// Questions that wait for the task.
pub const QUESTIONS: usize = 64;
/// Offences taken at one turn.
const TAKE: usize = 256;
/// How often what ended is swept, and counts of a flood are judged, while there may be any.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often the task looks around while nothing holds and nobody offends: rates are turned as often.
pub(super) const IDLE: Duration = Duration::from_millis(TURN_MS);
/// How often offences past the retention are forgotten, in milliseconds.
const FORGET_MS: u64 = 3_600_000;
/// Changes of one turn that are logged one by one; more are logged as a number.
const LOG_EACH: usize = 20;
/// Bans of one turn that take the short way; more come by the writer's batches.
const BY_SHORTCUT: usize = 32;
/// Batches of changes that a listener may lag behind.
pub const LISTENERS: usize = 1024;

/// A question to the task, or an order.
pub type Question = Box<dyn FnOnce(&mut Task) + Send>;

/// Looks an address's autonomous system up.
pub type AsnOf = Box<dyn Fn(IpAddr) -> Option<u32> + Send>;

/// What the task and its handles share.
#[derive(Debug)]
pub struct Shared {
    /// The way in for offences.
    pub queue: Queue,
    /// Who layer 7 refuses.
    pub denied: Denied,
    /// Requests by client.
    pub traffic: Traffic,
    /// How the kernel's writer fares.
    pub writer: WriterState,
    /// How the writer of lists fares.
    pub list_writer: WriterState,
    /// Where the kernel's writer gets its mail; none without a kernel.
    pub mailbox: Option<Arc<Mailbox>>,
    /// Where the writer of lists gets its sets; none without a kernel.
    pub lists: Option<Arc<ListBox>>,
    /// The lists in force.
    pub feeds: ArcSwap<Vec<FeedSet>>,
    /// Networks that the kernel drops for lists.
    pub feed_networks: AtomicU64,
    /// Where who is challenged may go.
    pub challenge_path: ArcSwapOption<Arc<str>>,
    /// Rung when operators change whom they allow.
    pub guard_changed: Notify,
    /// Numbers for metrics.
    pub numbers: Numbers,
}

/// What the task counts for metrics.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Decisions that hold.
    pub held: AtomicU64,
    /// Decisions begun.
    pub began: AtomicU64,
    /// Decisions ended.
    pub ended: AtomicU64,
    /// Offences judged.
    pub offences: AtomicU64,
    /// Offences of guarded clients.
    pub guarded: AtomicU64,
    /// Buckets that ran over.
    pub overflows: AtomicU64,
    /// Buckets in use.
    pub buckets: AtomicU64,
    /// Buckets that had to leave.
    pub buckets_evicted: AtomicU64,
}

/// Engine and rates, and where changes go.
pub struct Task {
    /// The pure core.
    pub engine: Engine,
    /// Requests by client, decayed.
    pub rates: Rates,
    /// What the handles see.
    pub shared: Arc<Shared>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where changes outlive the process; none: they don't.
    pub store: Option<Arc<Store>>,
    /// The short way into the kernel, where there is one.
    pub(super) shortcut: Option<Box<dyn Shortcut>>,
    /// What CrowdSec's local API holds.
    pub(super) crowdsec: Followed,
    /// When offences past the retention were last forgotten, in Unix milliseconds.
    pub(super) forgot_ms: u64,
    /// Whether there were offences since the last tick.
    pub(super) is_stirred: bool,
    pub(super) stopping: bool,
    pub(super) asn_of: Option<AsnOf>,
    pub(super) listeners: broadcast::Sender<Arc<[Change]>>,
}

impl Task {
    /// Runs until every handle is gone.
    pub async fn run(
        mut self,
        mut offences: mpsc::Receiver<Offence>,
        mut questions: mpsc::Receiver<Question>,
    ) {
        let mut taken = Vec::with_capacity(TAKE);
        let mut ticked = Instant::now();
        while !self.stopping {
            tokio::select! {
                _ = offences.recv_many(&mut taken, TAKE), if !offences.is_closed() => {
                    for offence in taken.drain(..) {
                        self.judge(&offence, 1);
                    }
                }
                question = questions.recv() => {
                    let Some(question) = question else { break };
                    question(&mut self);
                }
                () = sleep_until(ticked + self.pause()) => {
                    self.tick();
                    ticked = Instant::now();
                }
            }
        }
        if let Some(mailbox) = &self.shared.mailbox {
            mailbox.close();
        }
        if let Some(lists) = &self.shared.lists {
            lists.close();
        }
        if let Some(store) = self.store.take() {
            // Blocks for one commit: this thread has nothing else to do.
            store.close();
        }
    }

    /// Ends the loop after this turn.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// From one tick to the next.
    pub(super) fn pause(&self) -> Duration {
        if self.is_stirred || !self.engine.ledger.is_empty() { TICK } else { IDLE }
    }

    fn judge(&mut self, offence: &Offence, count: u32) {
        self.is_stirred = true;
        let addr = offence.client.addr();
        let requests = self.rates.of(&self.shared.traffic, addr);
        let asn = self.asn_of.as_ref().and_then(|asn_of| asn_of(addr));
        let changes = self.engine.judge(offence, count, requests, asn, self.clock.now_ms());
        self.publish(changes);
    }

    fn tick(&mut self) {
        let now_ms = self.clock.now_ms();
        self.is_stirred = false;
        for (offence, count) in self.shared.queue.take_spilled() {
            self.judge(&offence, count);
        }
        self.engine.ledger.expire(now_ms);
        self.settle();
        self.rates.turn(&self.shared.traffic, now_ms);
        if now_ms.abs_diff(self.forgot_ms) >= FORGET_MS {
            self.forgot_ms = now_ms;
            let oldest_ms = now_ms.saturating_sub(self.engine.ledger.retain_ms());
            self.engine.memory.forget(None, oldest_ms);
            self.engine.ledger.anonymise(now_ms);
        }
        self.count();
    }

    /// Hands on what the ledger changed since the last time.
    pub fn settle(&mut self) {
        let changes = self.engine.ledger.take_changes();
        self.publish(changes);
    }

    /// Tells the kernel and layer 7 of every decision that holds, as after a start.
    pub(super) fn publish_all(&mut self) {
        let ledger = &self.engine.ledger;
        let scopes: HashSet<&Scope> = ledger.iter().map(|d| &d.scope).collect();
        let effects: Vec<Effect> = scopes.into_iter().map(|scope| Effect::on(ledger, scope)).collect();
        if let Some(mailbox) = &self.shared.mailbox {
            mailbox.put(effects.iter().filter_map(Effect::in_kernel));
        }
        self.shared.denied.update(effects.into_iter().map(|effect| (effect.scope, effect.layer_7)));
        self.count();
    }

    fn publish(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let ledger = &self.engine.ledger;
        let scopes: HashSet<&Scope> = changes.iter().map(|c| &c.decision().scope).collect();
        let effects: Vec<Effect> = scopes.into_iter().map(|scope| Effect::on(ledger, scope)).collect();
        let mailbox = self.shared.mailbox.as_ref();
        let (bans, releases): (Vec<_>, Vec<_>) = effects
            .iter()
            .filter(|_| mailbox.is_some())
            .filter_map(Effect::in_kernel)
            .partition(|(_, wish)| wish.is_some());
        if let Some(mailbox) = mailbox.filter(|_| !bans.is_empty()) {
            let first: Vec<BanChange> = match &self.shortcut {
                Some(_) if bans.len() <= BY_SHORTCUT => {
                    let latest_ms = self.clock.now_ms().saturating_add(MAX_KERNEL_TTL_MS);
                    bans.iter().filter_map(|(network, wish)| ban(*network, *wish, latest_ms)).collect()
                }
                _ => Vec::new(),
            };
            mailbox.lay(bans);
            if let Some(shortcut) = self.shortcut.as_mut().filter(|_| !first.is_empty()) {
                shortcut.try_ban(&first);
            }
            mailbox.ring();
        }
        if let Some(store) = &self.store {
            store.append(changes.iter().map(Op::from).collect());
        }
        if let Some(mailbox) = mailbox.filter(|_| !releases.is_empty()) {
            mailbox.put(releases);
        }
        self.shared.denied.update(effects.into_iter().map(|effect| (effect.scope, effect.layer_7)));
        // After the kernel has it: a log that is slow to take a line must not keep a ban waiting.
        if changes.len() <= LOG_EACH {
            changes.iter().for_each(log);
        } else {
            tracing::info!(
                changes = changes.len(),
                held = self.engine.ledger.len(),
                "many decisions at once"
            );
        }
        let numbers = &self.shared.numbers;
        let began = changes.iter().filter(|c| matches!(c, Change::Began(_))).count() as u64;
        numbers.began.fetch_add(began, Ordering::Relaxed);
        numbers.ended.fetch_add(changes.len() as u64 - began, Ordering::Relaxed);
        numbers.held.store(ledger.len() as u64, Ordering::Relaxed);
        // No listener is no error: a node alone has none.
        drop(self.listeners.send(changes.into()));
    }

    fn count(&self) {
        let numbers = &self.shared.numbers;
        let counts = self.engine.counts();
        let (buckets, evicted) = self.engine.scenarios.sizes();
        for (number, value) in [
            (&numbers.offences, counts.offences),
            (&numbers.guarded, counts.guarded),
            (&numbers.overflows, counts.overflows),
            (&numbers.buckets, buckets as u64),
            (&numbers.buckets_evicted, evicted),
            (&numbers.held, self.engine.ledger.len() as u64),
        ] {
            number.store(value, Ordering::Relaxed);
        }
    }
}

/// What the decisions on a scope come to.
struct Effect {
    scope: Scope,
    kernel: Wish,
    layer_7: Option<Arc<Decision>>,
}

impl Effect {
    fn on(ledger: &Ledger, scope: &Scope) -> Self {
        let (kernel, layer_7) = ledger.effect_on(scope);
        let kernel = kernel.map(|(until_ms, origin)| (until_ms, BanReason::from(origin)));
        Self { scope: scope.clone(), kernel, layer_7: layer_7.cloned() }
    }

    /// The wish that the kernel is told, where the scope is a network.
    fn in_kernel(&self) -> Option<(IpNetwork, Wish)> {
        Some((self.scope.network()?, self.kernel))
    }
}

/// The change that makes a wished ban.
fn ban(network: IpNetwork, wish: Wish, latest_ms: u64) -> Option<BanChange> {
    let (until_ms, reason) = wish?;
    Some(BanChange::Add { network, until_unix_ms: until_ms.min(latest_ms), reason })
}

fn log(change: &Change) {
    let decision = change.decision();
    match change {
        Change::Began(_) => tracing::info!(
            id = %decision.id,
            scope = %decision.scope,
            action = %decision.action,
            origin = %decision.origin,
            reason = %decision.reason,
            end_ms = decision.end_ms,
            "decision begins"
        ),
        Change::Ended(ended) => {
            tracing::info!(id = %decision.id, scope = %decision.scope, how = ?ended.how, "decision ends");
        }
    }
}
