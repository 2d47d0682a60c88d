//! The ledger: every decision that holds, and how the last ones ended. Pure; `now` is an argument.
//!
//! What changes is collected as [`Change`]s, which the caller takes and hands on: to the kernel,
//! the view of layer 7, the store and the cluster.

mod order;
mod past;
mod questions;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::decision::{MAX_REASON_BYTES, cut};
use super::guard::{Guard, Guarded};
use super::{Action, Cause, Decision, DecisionId, Ending, Origin, Scope};
use crate::client::IpNetwork;
use crate::config::bans::{Bans, Escalation, Neighbours};
pub use order::{Change, Ended, Length, Order, Refusal};
use order::{counts, is_uncounted};
use past::Past;

/// Most decisions on one scope: one an origin.
pub const MAX_PER_SCOPE: usize = 16;
/// Most ended decisions that are kept in memory; the oldest leave.
pub const MAX_ENDED: usize = 50_000;
/// Most decisions that one sweep ends.
pub const MAX_SWEEP: usize = 10_000;

/// Decisions by id, scope and end.
#[derive(Debug)]
pub struct Ledger {
    guard: Guard,
    escalation: Escalation,
    neighbours: Option<Neighbours>,
    max_decisions: usize,
    retain_ms: u64,
    anonymise_ms: u64,
    node: u32,
    count: u64,
    held: HashMap<DecisionId, Arc<Decision>>,
    by_scope: HashMap<Scope, Vec<DecisionId>>,
    by_end: BTreeSet<(u64, DecisionId)>,
    /// Those that may leave when the ledger is full.
    automatic: BTreeSet<(u64, DecisionId)>,
    past: Past,
    near: HashMap<IpNetwork, u32>,
    ended: VecDeque<Arc<Ended>>,
    /// Of those, the ones taken back: a peer does not bring them in again.
    ended_ids: HashSet<DecisionId>,
    by_origin: HashMap<Origin, usize>,
    changes: Vec<Change>,
}

impl Ledger {
    /// An empty ledger of the node with this number.
    pub fn new(config: &Bans, guard: Guard, node: u32) -> Self {
        Self {
            guard,
            escalation: config.escalation.clone(),
            neighbours: config.neighbours.clone(),
            max_decisions: config.max_decisions,
            retain_ms: config.retain.as_millis() as u64,
            anonymise_ms: config.anonymise_after.as_millis() as u64,
            node,
            count: 0,
            held: HashMap::new(),
            by_scope: HashMap::new(),
            by_end: BTreeSet::new(),
            automatic: BTreeSet::new(),
            past: Past::new(config.max_decisions, config.escalation.memory),
            near: HashMap::new(),
            ended: VecDeque::new(),
            ended_ids: HashSet::new(),
            by_origin: HashMap::new(),
            changes: Vec::new(),
        }
    }

    /// What changed since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes a decision, or says why not.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn decide(&mut self, order: Order, now_ms: u64) -> Result<Arc<Decision>, Refusal> {
        self.guard.check(&order.scope)?;
        if order.action == Action::KernelBan && order.scope.network().is_none() {
            return Err(Refusal::NotForKernel(order.scope));
        }
        let earlier = match order.length {
            Length::Until(_) => 0,
            // The ban that holds now is not an earlier one.
            Length::Escalating(_) => {
                let now = self.on(&order.scope).filter(|d| counts(d)).count() as u32;
                self.past.count(&order.scope, now_ms).saturating_sub(now)
            }
        };
        let end_ms = match order.length {
            Length::Until(end) => end,
            Length::Escalating(base_ms) => Some(now_ms.saturating_add(self.escalated(base_ms, earlier))),
        };
        if end_ms.is_some_and(|end| end <= now_ms) {
            return Err(Refusal::InThePast);
        }
        let replaced = self.to_replace(&order, end_ms, now_ms)?;
        if replaced.is_none() && self.held.len() >= self.max_decisions {
            self.make_room(now_ms)?;
        }
        if let Some(old) = replaced {
            self.end(old, Ending::Replaced, now_ms);
        }
        self.count += 1;
        let mut cause = order.cause;
        cause.earlier_bans = earlier;
        let decision = Arc::new(Decision {
            id: order.id.unwrap_or_else(|| DecisionId::new(now_ms, self.node, self.count)),
            scope: order.scope,
            action: order.action,
            origin: order.origin,
            reason: cut(&order.reason, MAX_REASON_BYTES),
            scenario: order.scenario,
            start_ms: now_ms,
            end_ms,
            cause,
        });
        self.insert(decision.clone());
        self.changes.push(Change::Began(decision.clone()));
        self.decide_on_neighbours(&decision, now_ms);
        Ok(decision)
    }

    fn escalated(&self, base_ms: u64, earlier: u32) -> u64 {
        let factor = u64::from(self.escalation.factor).saturating_pow(earlier);
        let maximum = (self.escalation.maximum.as_millis() as u64).max(base_ms);
        base_ms.saturating_mul(factor).min(maximum)
    }

    /// The decision of the same origin on the same scope that the new one stands in for.
    fn to_replace(
        &self,
        order: &Order,
        end_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<DecisionId>, Refusal> {
        // A scenario that runs over again and again must not write a decision each time: half of the
        // new length has to be news.
        let end = end_ms.unwrap_or(u64::MAX);
        let news = match order.length {
            Length::Escalating(_) => end - (end - now_ms) / 2,
            Length::Until(_) => end,
        };
        let on_scope = self.by_scope.get(&order.scope).map_or(&[][..], Vec::as_slice);
        let same = on_scope.iter().filter_map(|id| self.held.get(id)).find(|d| d.origin == order.origin);
        match same {
            Some(old)
                if order.origin != Origin::Operator
                    && old.action >= order.action
                    && old.end_or_max() >= news =>
            {
                Err(Refusal::Held { scope: order.scope.clone(), id: old.id })
            }
            Some(old) => Ok(Some(old.id)),
            None if order.id.is_some_and(|id| self.held.contains_key(&id)) => Ok(order.id),
            None if on_scope.len() >= MAX_PER_SCOPE => Err(Refusal::ScopeFull(order.scope.clone())),
            None => Ok(None),
        }
    }

    fn make_room(&mut self, now_ms: u64) -> Result<(), Refusal> {
        let Some((_, id)) = self.automatic.first().copied() else {
            return Err(Refusal::Full(self.max_decisions));
        };
        self.end(id, Ending::Evicted, now_ms);
        Ok(())
    }

    fn insert(&mut self, decision: Arc<Decision>) {
        let at = (decision.end_or_max(), decision.id);
        self.by_end.insert(at);
        if decision.origin != Origin::Operator {
            self.automatic.insert(at);
        }
        if counts(&decision) {
            self.past.began(&decision.scope, decision.start_ms);
            if let Some(around) = self.neighbourhood(&decision.scope) {
                *self.near.entry(around).or_default() += 1;
            }
        }
        *self.by_origin.entry(decision.origin.clone()).or_default() += 1;
        self.by_scope.entry(decision.scope.clone()).or_default().push(decision.id);
        self.held.insert(decision.id, decision);
    }

    fn end(&mut self, id: DecisionId, how: Ending, now_ms: u64) -> Option<Arc<Decision>> {
        let decision = self.held.remove(&id)?;
        let at = (decision.end_or_max(), id);
        self.by_end.remove(&at);
        self.automatic.remove(&at);
        if let Some(count) = self.by_origin.get_mut(&decision.origin) {
            *count -= 1;
            if *count == 0 {
                self.by_origin.remove(&decision.origin);
            }
        }
        if let Some(ids) = self.by_scope.get_mut(&decision.scope) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_scope.remove(&decision.scope);
            }
        }
        if counts(&decision) {
            self.past.ended(&decision.scope, now_ms, is_uncounted(how));
            if let Some(around) = self.neighbourhood(&decision.scope)
                && let Some(count) = self.near.get_mut(&around)
            {
                *count -= 1;
                if *count == 0 {
                    self.near.remove(&around);
                }
            }
        }
        self.keep_ended(Arc::new(Ended { decision: decision.clone(), how, at_ms: now_ms }));
        Some(decision)
    }

    fn keep_ended(&mut self, ended: Arc<Ended>) {
        self.changes.push(Change::Ended(ended.clone()));
        self.remember(ended);
    }

    fn remember(&mut self, ended: Arc<Ended>) {
        if self.ended.len() == MAX_ENDED {
            self.drop_oldest();
        }
        // What its own node withdrew, it may tell again: after it lost its connection, say.
        if is_uncounted(ended.how) {
            self.ended_ids.insert(ended.decision.id);
        }
        self.ended.push_back(ended);
    }

    /// The neighbourhood of a client's scope; none for what is as wide itself.
    fn neighbourhood(&self, scope: &Scope) -> Option<IpNetwork> {
        let neighbours = self.neighbours.as_ref()?;
        let network = scope.network()?;
        let prefix = if network.addr().is_ipv4() { neighbours.v4 } else { neighbours.v6 };
        (network.prefix() > prefix).then(|| IpNetwork::containing(network.addr(), prefix))
    }

    /// Bans the neighbourhood when enough of it is banned. The guard's refusal is an answer as well.
    fn decide_on_neighbours(&mut self, decision: &Decision, now_ms: u64) {
        let Some(neighbours) = &self.neighbours else { return };
        if decision.origin != Origin::Local || decision.action != Action::KernelBan {
            return;
        }
        let Some(around) = self.neighbourhood(&decision.scope) else { return };
        let banned = self.near.get(&around).copied().unwrap_or(0);
        if banned < neighbours.clients {
            return;
        }
        let base_ms = neighbours.length.as_millis() as u64;
        let order = Order {
            id: None,
            scope: Scope::Network(around),
            action: Action::KernelBan,
            origin: Origin::Local,
            reason: format!("{banned} clients of {around} are banned at the same time").into(),
            scenario: Some("neighbours".into()),
            cause: Cause { first_ms: now_ms, last_ms: now_ms, ..decision.cause.clone() },
            length: Length::Escalating(base_ms),
        };
        if let Err(Refusal::Guard(why)) = self.decide(order, now_ms) {
            tracing::debug!(%around, %why, "a neighbourhood is not banned");
        }
    }

    /// Takes a decision back.
    pub fn remove(&mut self, id: DecisionId, how: Ending, now_ms: u64) -> Option<Arc<Decision>> {
        self.end(id, how, now_ms)
    }

    /// Ends what is over, at most [`MAX_SWEEP`] a call; true when more is due.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        for _ in 0..MAX_SWEEP {
            match self.by_end.first() {
                Some((end, id)) if *end <= now_ms => {
                    let id = *id;
                    self.end(id, Ending::Expired, now_ms);
                }
                _ => {
                    self.forget(now_ms);
                    return false;
                }
            }
        }
        true
    }

    /// Drops ended decisions that are past the retention.
    fn forget(&mut self, now_ms: u64) {
        let oldest = now_ms.saturating_sub(self.retain_ms);
        while self.ended.front().is_some_and(|e| e.at_ms < oldest) {
            self.drop_oldest();
        }
    }

    /// Takes the address out of decisions that ended long enough ago; how many.
    pub fn anonymise(&mut self, now_ms: u64) -> usize {
        let before = now_ms.saturating_sub(self.anonymise_ms);
        let mut count = 0;
        for ended in self.ended.iter_mut().take_while(|e| e.at_ms < before) {
            if let Some(decision) = ended.decision.anonymous() {
                *ended = Arc::new(Ended { decision: Arc::new(decision), ..(**ended).clone() });
                count += 1;
            }
        }
        count
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.ended.pop_front() {
            self.ended_ids.remove(&oldest.decision.id);
        }
    }

    /// Takes a stored decision in again. What ended meanwhile, or is guarded now, ends.
    pub fn restore(&mut self, decision: Arc<Decision>, now_ms: u64) {
        if self.held.contains_key(&decision.id) {
            return;
        }
        let how = if !decision.holds(now_ms) {
            Ending::Expired
        } else if self.guard.check(&decision.scope).is_err() {
            Ending::Allowed
        } else if self.held.len() >= self.max_decisions && self.make_room(now_ms).is_err() {
            Ending::Evicted
        } else {
            return self.insert(decision);
        };
        if counts(&decision) {
            self.past.began(&decision.scope, decision.start_ms);
            self.past.ended(&decision.scope, decision.end_or_max().min(now_ms), is_uncounted(how));
        }
        self.keep_ended(Arc::new(Ended { decision, how, at_ms: now_ms }));
    }

    /// Takes a stored, ended decision in again: it counts for escalation and explanations.
    pub fn restore_ended(&mut self, ended: Arc<Ended>, now_ms: u64) {
        if ended.at_ms < now_ms.saturating_sub(self.retain_ms) {
            return;
        }
        let decision = &ended.decision;
        if counts(decision) {
            self.past.began(&decision.scope, decision.start_ms);
            self.past.ended(&decision.scope, ended.at_ms, is_uncounted(ended.how));
        }
        self.remember(ended);
    }

    /// Guards an operator's network and ends what overlaps it. False where it was guarded before, or
    /// the guard's bound is reached.
    pub fn allow(&mut self, network: IpNetwork, now_ms: u64) -> bool {
        let added = self.guard.put(network, Guarded::Operator);
        if added {
            self.end_where(Ending::Allowed, now_ms, |d| {
                d.scope.network().is_some_and(|n| n.overlaps(&network))
            });
        }
        added
    }

    /// Guards an operator's network no longer.
    pub fn disallow(&mut self, network: &IpNetwork) -> bool {
        self.guard.take_off(network)
    }

    /// Puts a new configuration in place; what it guards now ends.
    pub fn configure(&mut self, config: &Bans, guard: Guard, now_ms: u64) {
        self.guard = guard;
        self.escalation = config.escalation.clone();
        self.past.remember_for(config.escalation.memory);
        self.max_decisions = config.max_decisions;
        self.retain_ms = config.retain.as_millis() as u64;
        self.anonymise_ms = config.anonymise_after.as_millis() as u64;
        self.neighbours.clone_from(&config.neighbours);
        self.near.clear();
        let scopes: Vec<Scope> = self.held.values().filter(|d| counts(d)).map(|d| d.scope.clone()).collect();
        for around in scopes.iter().filter_map(|s| self.neighbourhood(s)).collect::<Vec<_>>() {
            *self.near.entry(around).or_default() += 1;
        }
        let guard = self.guard.clone();
        self.end_where(Ending::Allowed, now_ms, |d| guard.check(&d.scope).is_err());
    }

    /// Ends every decision that `which` picks; how many.
    pub fn end_where(&mut self, how: Ending, now_ms: u64, which: impl Fn(&Decision) -> bool) -> usize {
        let ids: Vec<DecisionId> = self.held.values().filter(|d| which(d)).map(|d| d.id).collect();
        for id in &ids {
            self.end(*id, how, now_ms);
        }
        ids.len()
    }

    /// Forgets ended decisions and past bans inside a network; the ends and ids of those decisions.
    pub fn erase_ended(&mut self, network: &IpNetwork) -> Vec<(u64, DecisionId)> {
        let inside = |scope: &Scope| {
            scope.network().is_some_and(|n| network.contains(n.addr()) && n.prefix() >= network.prefix())
        };
        let gone: Vec<(u64, DecisionId)> = self
            .ended
            .iter()
            .filter(|e| inside(&e.decision.scope))
            .map(|e| (e.at_ms, e.decision.id))
            .collect();
        self.ended.retain(|e| !inside(&e.decision.scope));
        for (_, id) in &gone {
            self.ended_ids.remove(id);
        }
        self.past.erase(inside);
        gone
    }
}

#[cfg(test)]
mod tests;
