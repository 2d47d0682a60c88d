//! Orders of operators: `gateway ban …` and `gateway allow …`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Handle, Stopped};
use crate::bans::decision::{Cause, MAX_REASON_BYTES};
use crate::bans::ledger::{Length, Order, Refusal};
use crate::bans::store::Op;
use crate::bans::task::Task;
use crate::bans::{Action, Decision, DecisionId, Ended, Ending, Guarded, Origin, Scope};
use crate::client::IpNetwork;

/// Most decisions in one answer.
pub const MAX_PAGE: usize = 10_000;
/// Decisions of an import that are taken in one turn of the task.
const IMPORTED_AT_ONCE: usize = 500;
/// Most decisions in one import.
pub const MAX_IMPORT: usize = 200_000;

/// `gateway ban add SCOPE [--for 2h | --until TIME] [--action A] --reason TEXT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBan {
    /// Whom: an address, a network, `asn:N`, `country:XX` or `ja4:F`.
    pub scope: Scope,
    /// What; default: the kernel for networks, layer 7 for the others.
    #[serde(default)]
    pub action: Option<Action>,
    /// For how long, in milliseconds from now.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Until when, in Unix milliseconds; with `for_ms` too the earlier one. Neither: until it is removed.
    #[serde(default)]
    pub until_ms: Option<u64>,
    /// Why; cut to 256 bytes.
    #[serde(default)]
    pub reason: String,
}

/// `gateway ban remove SCOPE | ID`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum RemoveBan {
    /// Every decision on exactly this scope.
    Scope(Scope),
    /// One decision.
    Id(DecisionId),
}

/// What was removed, and what still refuses the client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Removed {
    /// The decisions taken back.
    pub removed: Vec<Arc<Decision>>,
    /// Decisions on wider networks that still cover the scope.
    pub still_covered_by: Vec<Arc<Decision>>,
}

/// `gateway ban list [--scope NETWORK] [--origin O] [--after ID] [--limit N]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListBans {
    /// Only those that share an address with this network.
    pub within: Option<IpNetwork>,
    /// Only those of this origin.
    pub origin: Option<Origin>,
    /// Only ids greater than this one: the next page.
    pub after: Option<DecisionId>,
    /// At most this many; default and bound 10,000.
    pub limit: Option<usize>,
}

/// One page of decisions in the order of their ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BanListing {
    /// The decisions.
    pub decisions: Vec<Arc<Decision>>,
    /// Whether more follow.
    pub more: bool,
    /// All that hold, whatever the filter.
    pub held: usize,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImportReport {
    /// Decisions taken.
    pub added: usize,
    /// Those that hold already or are over, by sentence, with how often; at most 16 sentences.
    pub refused: Vec<(String, usize)>,
}

/// An entry of the guard list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowEntry {
    /// The network.
    pub network: IpNetwork,
    /// Why it is guarded.
    pub why: Guarded,
}

/// An order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The ledger refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing to remove.
    #[error("no decision holds on {0}; `gateway why ADDRESS` tells what covers an address")]
    NoneOn(String),
    /// Too much at once.
    #[error("an import takes at most {MAX_IMPORT} decisions; split it")]
    TooMany,
    /// The network is guarded by the configuration, or not at all.
    #[error("{0} is not on the operators' allowlist; what the configuration guards is changed there")]
    NotAllowed(IpNetwork),
    /// The network is guarded already, or there is no room.
    #[error("{0} is on the allowlist already, or the list is full")]
    Allowed(IpNetwork),
    /// An allowance as wide as this would open the gateway.
    #[error(
        "{0} is every address: allowing it would switch bans off. Set `bans.enabled = false` to do that."
    )]
    AllowsEverything(IpNetwork),
    /// The task is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Handle {
    /// Bans by an operator's order.
    ///
    /// # Errors
    /// The ledger refuses, with a sentence.
    pub async fn add(&self, order: AddBan) -> Result<Arc<Decision>, OperatorError> {
        self.ask(move |task| add(task, order)).await?.map_err(OperatorError::from)
    }

    /// Takes decisions back, whoever took them.
    ///
    /// # Errors
    /// There is none.
    pub async fn remove(&self, order: RemoveBan) -> Result<Removed, OperatorError> {
        self.ask(move |task| remove(task, &order)).await?
    }

    /// Decisions that hold.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn list(&self, filter: ListBans) -> Result<BanListing, Stopped> {
        self.ask(move |task| list(task, &filter)).await
    }

    /// A decision, held or ended.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn show(&self, id: DecisionId) -> Result<Option<(Arc<Decision>, Option<Arc<Ended>>)>, Stopped> {
        self.ask(move |task| {
            let ledger = &task.engine.ledger;
            if let Some(decision) = ledger.get(id) {
                return Some((decision.clone(), None));
            }
            let ended = ledger.ended().rev().find(|e| e.decision.id == id)?;
            Some((ended.decision.clone(), Some(ended.clone())))
        })
        .await
    }

    /// Takes decisions that [`Handle::list`] of this or another gateway gave, as an operator's.
    ///
    /// # Errors
    /// There are too many; single refusals are in the report.
    pub async fn import(&self, decisions: Vec<Decision>) -> Result<ImportReport, OperatorError> {
        if decisions.len() > MAX_IMPORT {
            return Err(OperatorError::TooMany);
        }
        let mut report = ImportReport::default();
        let mut rest = decisions.into_iter().peekable();
        let mut waiting = None;
        // In parts of a millisecond or two, so that offences are judged in between. The next part waits already when
        // one is done.
        loop {
            let next = if rest.peek().is_some() {
                let part: Vec<Decision> = rest.by_ref().take(IMPORTED_AT_ONCE).collect();
                Some(self.put(move |task| import(task, part)).await?)
            } else {
                None
            };
            let is_last = next.is_none();
            if let Some(answer) = std::mem::replace(&mut waiting, next) {
                let (added, refused) = answer.await.map_err(|_| Stopped)?;
                report.added += added;
                refused.into_iter().for_each(|sentence| count(&mut report.refused, sentence));
            }
            if is_last {
                return Ok(report);
            }
        }
    }

    /// Puts a network on the operators' allowlist; decisions that overlap it end.
    ///
    /// # Errors
    /// It is there already, or it is everything.
    pub async fn allow(&self, network: IpNetwork) -> Result<(), OperatorError> {
        if network.prefix() == 0 {
            return Err(OperatorError::AllowsEverything(network));
        }
        let added = self
            .ask(move |task| {
                let added = task.engine.ledger.allow(network, task.clock.now_ms());
                if let Some(store) = task.store.as_ref().filter(|_| added) {
                    store.append(vec![Op::Allow(network)]);
                }
                added
            })
            .await?;
        self.shared().guard_changed.notify_one();
        if added { Ok(()) } else { Err(OperatorError::Allowed(network)) }
    }

    /// Takes a network off the operators' allowlist.
    ///
    /// # Errors
    /// It is not on it.
    pub async fn disallow(&self, network: IpNetwork) -> Result<(), OperatorError> {
        let gone = self
            .ask(move |task| {
                let gone = task.engine.ledger.disallow(&network);
                if let Some(store) = task.store.as_ref().filter(|_| gone) {
                    store.append(vec![Op::Disallow(network)]);
                }
                gone
            })
            .await?;
        self.shared().guard_changed.notify_one();
        if gone { Ok(()) } else { Err(OperatorError::NotAllowed(network)) }
    }

    /// Every guarded network, with its reason.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn allowed(&self) -> Result<Vec<AllowEntry>, Stopped> {
        self.ask(|task| {
            task.engine.ledger.guard().entries().map(|(network, why)| AllowEntry { network, why }).collect()
        })
        .await
    }
}

fn add(task: &mut Task, order: AddBan) -> Result<Arc<Decision>, Refusal> {
    let now_ms = task.clock.now_ms();
    let after = order.for_ms.map(|ms| now_ms.saturating_add(ms));
    let end_ms = match (after, order.until_ms) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let usual = if order.scope.network().is_some() { Action::KernelBan } else { Action::L7Deny };
    let reason = order.reason.get(..order.reason.floor_char_boundary(MAX_REASON_BYTES)).unwrap_or("");
    let reason = if reason.is_empty() { "an operator's order" } else { reason };
    let order = Order {
        id: None,
        scope: order.scope,
        action: order.action.unwrap_or(usual),
        origin: Origin::Operator,
        reason: reason.into(),
        scenario: None,
        cause: Cause::default(),
        length: Length::Until(end_ms),
    };
    task.engine.ledger.decide(order, now_ms)
}

fn remove(task: &mut Task, order: &RemoveBan) -> Result<Removed, OperatorError> {
    let now_ms = task.clock.now_ms();
    let ledger = &mut task.engine.ledger;
    let ids: Vec<DecisionId> = match order {
        RemoveBan::Id(id) => vec![*id],
        RemoveBan::Scope(scope) => ledger.on(scope).map(|d| d.id).collect(),
    };
    let removed: Vec<Arc<Decision>> =
        ids.into_iter().filter_map(|id| ledger.remove(id, Ending::Removed, now_ms)).collect();
    let Some(first) = removed.first() else {
        return Err(OperatorError::NoneOn(match order {
            RemoveBan::Id(id) => id.to_string(),
            RemoveBan::Scope(scope) => scope.to_string(),
        }));
    };
    let network = first.scope.network();
    let still_covered_by = network.map_or_else(Vec::new, |n| ledger.covering(n.addr()));
    for decision in &removed {
        // What filled the buckets is pardoned as well: else the next offence would ban again.
        if let Some(network) = decision.scope.network() {
            task.engine.scenarios.forget(&network);
        }
    }
    Ok(Removed { removed, still_covered_by })
}

fn list(task: &Task, filter: &ListBans) -> BanListing {
    let ledger = &task.engine.ledger;
    let limit = filter.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let mut decisions: Vec<Arc<Decision>> = ledger
        .iter()
        .filter(|d| filter.after.is_none_or(|after| d.id > after))
        .filter(|d| filter.origin.as_ref().is_none_or(|origin| d.origin == *origin))
        .filter(|d| filter.within.is_none_or(|w| d.scope.network().is_some_and(|n| n.overlaps(&w))))
        .cloned()
        .collect();
    decisions.sort_unstable_by_key(|d| d.id);
    let more = decisions.len() > limit;
    decisions.truncate(limit);
    BanListing { decisions, more, held: ledger.len() }
}

/// How many were taken, and why the others were refused.
fn import(task: &mut Task, decisions: Vec<Decision>) -> (usize, Vec<String>) {
    let now_ms = task.clock.now_ms();
    let take = |decision: Decision| {
        let order = Order {
            id: None,
            scope: decision.scope,
            action: decision.action,
            origin: Origin::Operator,
            reason: decision.reason,
            scenario: decision.scenario,
            cause: decision.cause,
            length: Length::Until(decision.end_ms),
        };
        task.engine.ledger.decide(order, now_ms).err().map(|refusal| refusal.to_string())
    };
    let count = decisions.len();
    let refused: Vec<String> = decisions.into_iter().filter_map(take).collect();
    (count - refused.len(), refused)
}

fn count(refused: &mut Vec<(String, usize)>, sentence: String) {
    const SENTENCES: usize = 16;
    if let Some((_, count)) = refused.iter_mut().find(|(known, _)| *known == sentence) {
        *count += 1;
    } else if refused.len() < SENTENCES {
        refused.push((sentence, 1));
    } else if let Some((_, count)) = refused.last_mut() {
        *count += 1;
    }
}
