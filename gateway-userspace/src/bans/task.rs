//! The bans task: the one owner of engine and rates. Everything else asks it.
//!
//! Each turn takes offences, questions or the tick, and hands what changed on in this order:
//! the store's journal (so that nothing the kernel drops for can be forgotten), the kernel's mailbox,
//! the view of layer 7, the cluster.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast, mpsc};

use super::clock::Clock;
use super::crowdsec::Followed;
use super::denied::Denied;
use super::engine::Engine;
use super::feed::FeedSet;
use super::ledger::{Change, Ledger};
use super::queue::Queue;
use super::store::{Op, Store};
use super::traffic::{Rates, Traffic};
use super::writer::{BanReason, Mailbox, Wish, WriterState};
use super::{Action, Offence, Scope};
use crate::client::IpNetwork;

/// Questions that wait for the task.
pub const QUESTIONS: usize = 64;
/// Offences taken at one turn.
const TAKE: usize = 256;
/// How often what ended is swept, and counts of a flood are judged.
const TICK: Duration = Duration::from_millis(100);
/// After how many ticks offences past the retention are forgotten: an hour.
const FORGET_TICKS: u64 = 36_000;
/// Changes of one turn that are logged one by one; more are logged as a number.
const LOG_EACH: usize = 20;
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
    /// Where the kernel's writer gets its mail; none without a kernel.
    pub mailbox: Option<Arc<Mailbox>>,
    /// The lists in force.
    pub feeds: ArcSwap<Vec<FeedSet>>,
    /// Networks that the kernel drops for lists.
    pub feed_networks: AtomicU64,
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
    /// What CrowdSec's local API holds.
    pub(super) crowdsec: Followed,
    pub(super) ticks: u64,
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
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                _ = tick.tick() => self.tick(),
            }
        }
        if let Some(mailbox) = &self.shared.mailbox {
            mailbox.close();
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

    fn judge(&mut self, offence: &Offence, count: u32) {
        let addr = offence.client.addr();
        let requests = self.rates.of(&self.shared.traffic, addr);
        let asn = self.asn_of.as_ref().and_then(|asn_of| asn_of(addr));
        let changes = self.engine.judge(offence, count, requests, asn, self.clock.now_ms());
        self.publish(changes);
    }

    fn tick(&mut self) {
        let now_ms = self.clock.now_ms();
        for (offence, count) in self.shared.queue.take_spilled() {
            self.judge(&offence, count);
        }
        self.engine.ledger.expire(now_ms);
        self.settle();
        self.rates.turn(&self.shared.traffic, now_ms);
        self.ticks += 1;
        if self.ticks.is_multiple_of(FORGET_TICKS) {
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
        if let Some(mailbox) = &self.shared.mailbox {
            mailbox.put(scopes.iter().filter_map(|s| Some((s.network()?, wish(ledger, s)))));
        }
        self.shared.denied.update(scopes.iter().map(|s| ((*s).clone(), ledger.at_layer_7(s).cloned())));
        self.count();
    }

    fn publish(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Some(store) = &self.store {
            store.append(changes.iter().map(Op::from).collect());
        }
        let scopes: HashSet<&Scope> = changes.iter().map(|c| &c.decision().scope).collect();
        let ledger = &self.engine.ledger;
        if let Some(mailbox) = &self.shared.mailbox {
            let wishes: HashMap<IpNetwork, Wish> =
                scopes.iter().filter_map(|scope| Some((scope.network()?, wish(ledger, scope)))).collect();
            mailbox.put(wishes);
        }
        self.shared
            .denied
            .update(scopes.iter().map(|scope| ((*scope).clone(), ledger.at_layer_7(scope).cloned())));
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

/// What the kernel should do with a scope's network.
pub fn wish(ledger: &Ledger, scope: &Scope) -> Wish {
    let until = ledger.in_kernel(scope)?.unwrap_or(u64::MAX);
    let reason = ledger
        .on(scope)
        .find(|d| d.action == Action::KernelBan && d.end_or_max() == until)
        .map_or(BanReason::Local, |d| BanReason::from(&d.origin));
    Some((until, reason))
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
