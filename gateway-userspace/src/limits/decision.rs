//! What the limits say of a request, and what has to be done when its answer is known.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::in_force::InForce;
use super::limiter::Inner;
use super::policy::{Limit, Policy};
use super::redis::From;
use super::request::Outcome;
use super::table::Key;
use super::window::Nanos;
use crate::client::ClientId;
use crate::config::limits::MAX_LIMITS;

/// What the limits say of a request.
pub enum Decision {
    /// It may pass. Keep the permit until the answer is known.
    Allowed(Permit),
    /// It may not.
    Refused(Refusal),
}

/// How the limits stand, for the headers of an answer.
pub struct Standing {
    pub(super) policy: InForce,
    pub(super) reports: Reports,
    /// The limits in shadow mode that would have refused, a bit each: there are at most 64.
    pub(super) shadowed: u64,
}

/// One report for each limit. One alone, which is the usual case, is not moved about in a list.
pub(super) enum Reports {
    One(Report),
    Many(SmallVec<[Report; 4]>),
}

impl Reports {
    pub(super) fn new() -> Self {
        Self::Many(SmallVec::new())
    }

    pub(super) fn push(&mut self, report: Report) {
        match self {
            Self::One(first) => *self = Self::Many(SmallVec::from_slice(&[*first, report])),
            Self::Many(reports) => reports.push(report),
        }
    }
}

impl Deref for Reports {
    type Target = [Report];

    fn deref(&self) -> &[Report] {
        match self {
            Self::One(report) => std::slice::from_ref(report),
            Self::Many(reports) => reports,
        }
    }
}

/// How one limit stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) index: u16,
    pub(super) remaining: u32,
    pub(super) reset: Nanos,
}

const _: () = assert!(MAX_LIMITS <= u64::BITS as usize);

impl Standing {
    /// The names of the limits in shadow mode that would have refused the request: for the access log.
    pub fn shadowed(&self) -> impl Iterator<Item = &Arc<str>> {
        let is_shadowed = |limit: &&Limit| self.shadowed.unbounded_shr(limit.index.into()) & 1 == 1;
        let limits = if self.shadowed == 0 { &[][..] } else { &self.policy.limits };
        limits.iter().filter(is_shadowed).map(|limit| &limit.name)
    }

    pub(super) fn limit(&self, index: u16) -> Option<&Limit> {
        self.policy.limits.get(usize::from(index))
    }
}

/// A request was let through. Short-lived: tell the client how its limits stand ([`Permit::headers`]), then keep what
/// the request holds, if anything ([`Permit::holding`]).
#[must_use = "a permit that is dropped has its units counted as if the request had failed"]
pub struct Permit {
    pub(super) standing: Standing,
    pub(super) holding: Option<Holding>,
    pub(super) decided_at: Nanos,
}

/// What a request holds until its answer is known: places among the concurrent requests, and units that count only
/// on condition. Settled with [`Holding::settle`]; dropped without it has its places given back and its units
/// counted: whoever breaks off before the answer gains no free attempt.
#[must_use = "what is dropped has its units counted as if the request had failed"]
pub struct Holding {
    pub(super) held: SmallVec<[Held; 2]>,
    pub(super) policy: Arc<Policy>,
    pub(super) inner: Arc<Inner>,
}

/// What a permit holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// A place among the concurrent requests.
    Place(Key),
    /// Units whose number is known for good when the answer is.
    Units {
        index: u16,
        cost: u32,
        key: Key,
        at: Nanos,
        /// Where a shared limit had them from.
        shared: Option<Box<FromShared>>,
    },
}

/// Where units of a shared limit came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FromShared {
    pub(super) from: From,
    /// The client's key in Redis, where they were counted there.
    pub(super) text: Option<String>,
}

impl Permit {
    /// What the request holds until its answer is known; most requests hold nothing.
    pub fn holding(self) -> Option<Holding> {
        self.holding
    }

    /// Settles what depends on the answer, which has gone out whole.
    pub fn settle(self, outcome: &Outcome<'_>, now: Nanos) {
        drop(self.holding.and_then(|holding| holding.settle(outcome, now)));
    }

    /// How the limits stand, for the answer's headers.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// When the last of its units was taken, by the clock that decided: for limits in Redis the limiter's own, read as
    /// the unit was spent, else the request's `now`. This is the time that a window is about.
    pub fn decided_at(&self) -> Nanos {
        self.decided_at
    }
}

impl Holding {
    /// Settles what depends on the answer's head. Never waits: what concerns Redis is sent in the background. Gives
    /// back the places among the concurrent requests, if there are any: drop them when the body has gone out.
    #[must_use = "places are free again when this is dropped"]
    pub fn settle(mut self, outcome: &Outcome<'_>, now: Nanos) -> Option<Self> {
        let held = std::mem::take(&mut self.held);
        for held in held {
            match held {
                Held::Place(_) => self.held.push(held),
                units @ Held::Units { .. } => self.inner.settle(&self.policy, units, outcome, now),
            }
        }
        (!self.held.is_empty()).then_some(self)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            self.inner.release(held);
        }
    }
}

/// A request was refused.
pub struct Refusal {
    /// The limit that refused it.
    pub limit: Arc<str>,
    /// What to answer.
    pub response: Response,
    /// When to come again.
    pub retry_after: Duration,
    /// The offence that this refusal is, if it is one: for the bans.
    pub offence: Option<Persistence>,
    pub(super) standing: Standing,
}

impl Refusal {
    /// How the limits stand, for the answer's headers.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
}

/// What to answer to a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// 429 (RFC 6585, section 4).
    TooManyRequests,
    /// The way to the challenge.
    Challenge(Arc<str>),
}

/// A client that goes on past refusals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistence {
    /// Who. Its `kernel_target` says whether the kernel can act on it.
    pub client: ClientId,
    /// The limit.
    pub limit: Arc<str>,
    /// Refusals within a window so far.
    pub refusals: u16,
    /// Whether the limit counts this client's address by itself: no neighbour can have brought the refusals about.
    pub own: bool,
    /// Whether the limit's action is a ban.
    pub ban: bool,
    /// How long until the quota comes back: how long the kernel should act, at most.
    pub until_reset: Duration,
}
