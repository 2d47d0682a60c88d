//! What is asked of the ledger, and what it tells.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::MAX_PER_SCOPE;
use crate::bans::guard::GuardRefusal;
use crate::bans::{Action, Cause, Decision, DecisionId, Ending, Origin, Scope};

/// How long a decision is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Until this time in Unix milliseconds; none: until it is taken back.
    Until(Option<u64>),
    /// This many milliseconds the first time, longer with each ban remembered.
    Escalating(u64),
}

/// A decision that is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its id, where another node gave it one.
    pub id: Option<DecisionId>,
    /// Who.
    pub scope: Scope,
    /// What.
    pub action: Action,
    /// By whom.
    pub origin: Origin,
    /// Why, in a sentence; cut to [`MAX_REASON_BYTES`](crate::bans::decision::MAX_REASON_BYTES).
    pub reason: Arc<str>,
    /// The scenario, where one decided.
    pub scenario: Option<Arc<str>>,
    /// What led to it.
    pub cause: Cause,
    /// For how long.
    pub length: Length,
}

/// Why a decision was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would hit who must not be hit, or too many.
    #[error(transparent)]
    Guard(#[from] GuardRefusal),
    /// The kernel knows addresses only.
    #[error("{0} is no network: the kernel can't ban it. Use the action l7-deny, challenge or observe.")]
    NotForKernel(Scope),
    /// It is over before it begins.
    #[error("the end lies in the past: nothing would be banned. Give a later --until, or --for.")]
    InThePast,
    /// The same origin already refuses this client at least as long and as hard.
    #[error("{scope} is already refused by decision {id} for as long.")]
    Held {
        /// Who.
        scope: Scope,
        /// The decision that holds.
        id: DecisionId,
    },
    /// Too many origins on one scope.
    #[error("{0} already has {MAX_PER_SCOPE} decisions of different origins, which is the bound.")]
    ScopeFull(Scope),
    /// No room, and nothing that may leave.
    #[error(
        "the ledger holds {0} decisions, its bound `bans.max_decisions`, and none of them may be dropped. Raise it or remove bans."
    )]
    Full(usize),
}

/// A decision that holds no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The decision.
    pub decision: Arc<Decision>,
    /// Why it ended.
    pub how: Ending,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// What happened in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A decision holds from now on.
    Began(Arc<Decision>),
    /// A decision holds no longer.
    Ended(Arc<Ended>),
}

impl Change {
    /// The decision that began or ended.
    pub fn decision(&self) -> &Arc<Decision> {
        match self {
            Self::Began(decision) => decision,
            Self::Ended(ended) => &ended.decision,
        }
    }
}

/// Whether a decision makes the next one longer, and counts for its neighbourhood.
pub(super) fn counts(decision: &Decision) -> bool {
    decision.origin == Origin::Local && decision.action > Action::Observe
}

/// Whether this ending takes the ban out of the memory.
pub(super) fn is_uncounted(how: Ending) -> bool {
    matches!(how, Ending::Removed | Ending::Allowed | Ending::Replaced)
}
