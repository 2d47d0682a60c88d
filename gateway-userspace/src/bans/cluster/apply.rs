//! What peers say, taken into the ledger.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ClusterState, Message, Word};
use crate::bans::ledger::{Ledger, Length, Order};
use crate::bans::task::Task;
use crate::bans::{Action, Decision, DecisionId, Ending, Origin};

/// The bounds on what a peer may do here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most of its decisions.
    pub(super) cap: usize,
    /// Longest of its bans from now on, in milliseconds; an operator's on it may be longer.
    pub(super) longest_ms: u64,
}

pub(super) fn messages(task: &mut Task, messages: Vec<Message>, bounds: Bounds, state: &ClusterState) {
    let now_ms = task.clock.now_ms();
    let ledger = &mut task.engine.ledger;
    for message in messages {
        state.received.fetch_add(1, Ordering::Relaxed);
        let origin = Origin::Peer(message.node.clone());
        match message.word {
            Word::Began(decision) => began(ledger, &origin, &decision, bounds, state, now_ms),
            Word::Ended(id) if ledger.get(id).is_some_and(|d| d.origin == origin) => {
                ledger.remove(id, Ending::Withdrawn, now_ms);
            }
            Word::Pardon(id) => {
                let own = ledger.get(id).is_some_and(|d| !matches!(d.origin, Origin::Peer(_)));
                // Its own node tells the others; the one that only mirrors it does not.
                let how = if own { Ending::Removed } else { Ending::Withdrawn };
                ledger.remove(id, how, now_ms);
            }
            Word::Ended(_) | Word::Snapshot => {}
        }
    }
}

/// Makes what holds of a peer what its snapshot says.
pub(super) fn snapshot(
    task: &mut Task,
    node: &Arc<str>,
    decisions: &[Arc<Decision>],
    bounds: Bounds,
    state: &ClusterState,
) {
    let now_ms = task.clock.now_ms();
    let origin = Origin::Peer(node.clone());
    let ledger = &mut task.engine.ledger;
    let told: HashSet<DecisionId> = decisions.iter().map(|d| d.id).collect();
    ledger.end_where(Ending::Withdrawn, now_ms, |d| d.origin == origin && !told.contains(&d.id));
    for decision in decisions {
        began(ledger, &origin, decision, bounds, state, now_ms);
    }
}

fn began(
    ledger: &mut Ledger,
    origin: &Origin,
    decision: &Decision,
    bounds: Bounds,
    state: &ClusterState,
    now_ms: u64,
) {
    if ledger.get(decision.id).is_some()
        || decision.action == Action::Observe
        || ledger.knows_ended(decision.id)
    {
        return;
    }
    if ledger.held_by(origin) >= bounds.cap {
        if state.over_cap.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(%origin, cap = bounds.cap, "a peer is over its cap: further decisions of it are refused");
        }
        return;
    }
    let by_operator = decision.origin == Origin::Operator;
    let latest = now_ms.saturating_add(bounds.longest_ms);
    let end_ms = if by_operator { decision.end_ms } else { Some(decision.end_or_max().min(latest)) };
    let order = Order {
        id: Some(decision.id),
        scope: decision.scope.clone(),
        action: decision.action,
        origin: origin.clone(),
        reason: decision.reason.clone(),
        scenario: decision.scenario.clone(),
        cause: decision.cause.clone(),
        length: Length::Until(end_ms),
    };
    if let Err(refusal) = ledger.decide(order, now_ms) {
        state.refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%origin, %refusal, "a peer's decision is refused");
    }
}
