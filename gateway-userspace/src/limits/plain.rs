//! The usual case, decided the shortest way: limits in memory that look at every request of their route, each at the
//! same cost. `limiter.rs` has the others, and the same order of things.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::decision::{Decision, Permit, Refusal, Report, Reports, Standing};
use super::in_force::InForce;
use super::limiter::{Attempt, Check, Inner, Limiter, Moment, Refused, Told, take, take_inlined};
use super::pending::First;
use super::policy::{Kind, Limit, Policy};
use super::request::LimitRequest;
use super::slot::{Slot, Took, seconds};
use super::table::{AT_ONCE, Key};
use super::window::Nanos;

/// What came of it.
pub(super) struct Plain {
    reports: Reports,
    shadowed: u64,
    refused: Option<Refused>,
}

impl Limiter {
    /// Decides where a route has one limit, which is plain. What is returned is made at the end, in its place: moving it
    /// about would take as long as the arithmetic.
    #[inline]
    pub(super) fn check_one<'a>(
        &self,
        in_force: InForce,
        index: u16,
        request: &LimitRequest<'a>,
    ) -> Check<'a> {
        let (inner, now) = (&*self.inner, request.now);
        let of = |policy: &Policy| {
            let limit = policy.limits.get(usize::from(index))?;
            let Kind::Rate(rate) = &limit.kind else { return None };
            let spec = policy.specs.get(usize::from(limit.spec))?;
            let base = spec.key.hash(request, &inner.secret, &spec.hashing)?;
            let mut row = inner.local.row(base);
            let key = base.salted(limit.salt);
            let took =
                row.update(key, seconds(now), |slot| take_inlined(slot, limit, rate, now, limit.base_cost()));
            drop(row);
            if took.verdict.ok {
                limit.metrics.allowed.add();
            }
            Some(took)
        };
        let reports = match of(&in_force) {
            Some(Took { verdict, .. }) if verdict.ok => {
                Reports::One(Report { index, remaining: verdict.remaining, reset: verdict.reset })
            }
            Some(took) => return self.one_lacked(in_force, index, request, took),
            // The limit has no key for this request.
            None => Reports::new(),
        };
        let standing = Standing { policy: in_force, reports, shadowed: 0 };
        Check::Done(Decision::Allowed(Permit { standing, holding: None, decided_at: now }))
    }

    fn one_lacked<'a>(
        &self,
        in_force: InForce,
        index: u16,
        request: &LimitRequest<'a>,
        took: Took,
    ) -> Check<'a> {
        let moment = Moment { now: request.now, waited: Duration::ZERO, may_ask: false };
        let (remaining, reset) = (took.verdict.remaining, took.verdict.reset);
        let mut standing = Standing { policy: in_force, reports: Reports::new(), shadowed: 0 };
        let refused = standing.policy.limits.get(usize::from(index)).and_then(|limit| {
            if limit.is_shadow() {
                limit.metrics.shadowed.add();
                standing.shadowed = 1_u64.unbounded_shl(index.into());
                return None;
            }
            Some(self.inner.refused(request, limit, took, moment, None))
        });
        match refused {
            None => {
                Check::Done(Decision::Allowed(Permit { standing, holding: None, decided_at: request.now }))
            }
            Some(Refused::Delay(wait)) => {
                self.pending(request, First::Delay(wait, Arc::clone(&standing.policy)))
            }
            Some(Refused::Told(Told { limit, response, retry_after, offence })) => {
                standing.reports = Reports::One(Report { index, remaining, reset });
                Check::Done(Decision::Refused(Refusal { limit, response, retry_after, offence, standing }))
            }
        }
    }
}

impl Inner {
    /// Takes from all of a route's limits, which are [`super::Limit`]s that are plain, or from none.
    #[inline]
    pub(super) fn decide_plainly(
        &self,
        policy: &Policy,
        limits: &[u16],
        request: &LimitRequest<'_>,
        moment: Moment,
    ) -> Plain {
        let now = moment.now;
        let mut plain = Plain { reports: Reports::new(), shadowed: 0, refused: None };
        let spec_of = |index: &u16| policy.limits.get(usize::from(*index)).map(|limit| limit.spec);
        // Limits with the same way to tell clients apart stand together: one hash, one lock, and
        // some keys looked for at once.
        'all: for alike in limits.chunk_by(|a, b| spec_of(a) == spec_of(b)) {
            let spec = alike.first().and_then(spec_of).and_then(|spec| policy.specs.get(usize::from(spec)));
            let base = spec.and_then(|spec| spec.key.hash(request, &self.secret, &spec.hashing));
            let Some(base) = base else { continue };
            let mut row = self.local.row(base);
            for some in alike.chunks(AT_ONCE) {
                let keys: SmallVec<[Key; AT_ONCE]> =
                    policy.at(some).map(|limit| base.salted(limit.salt)).collect();
                let places = row.places(&keys);
                let places = places.as_deref().unwrap_or_default();
                for (n, (limit, key)) in policy.at(some).zip(&keys).enumerate() {
                    let Kind::Rate(rate) = &limit.kind else { continue };
                    let change = |slot: &mut Slot| take(slot, limit, rate, now, limit.base_cost());
                    let took = match places.get(n) {
                        Some(place) => row.update_at(*place, change),
                        None => row.update(*key, seconds(now), change),
                    };
                    let verdict = took.verdict;
                    if verdict.ok {
                        let (remaining, reset) = (verdict.remaining, verdict.reset);
                        plain.reports.push(Report { index: limit.index, remaining, reset });
                    } else if plain.lacked(self, limit, request, took, moment) {
                        break 'all;
                    }
                }
            }
        }
        if plain.refused.is_some() {
            self.undo(policy, &plain.reports, request, now);
        } else {
            for limit in plain.reports.iter().filter_map(|r| policy.limits.get(usize::from(r.index))) {
                limit.metrics.allowed.add();
            }
        }
        plain
    }

    /// Gives back what was taken from all but the last of these limits, which refused.
    #[cold]
    fn undo(&self, policy: &Policy, reports: &[Report], request: &LimitRequest<'_>, now: Nanos) {
        let Some((_, taken)) = reports.split_last() else { return };
        for limit in taken.iter().filter_map(|report| policy.limits.get(usize::from(report.index))) {
            let base = policy.specs.get(usize::from(limit.spec));
            let base = base.and_then(|spec| spec.key.hash(request, &self.secret, &spec.hashing));
            if let (Some(base), Kind::Rate(rate)) = (base, &limit.kind) {
                self.give_back(rate, base.salted(limit.salt), now, now, limit.base_cost());
            }
        }
    }
}

impl Plain {
    /// Takes in that a limit had no room; tells whether that ends it.
    #[cold]
    fn lacked(
        &mut self,
        inner: &Inner,
        limit: &Limit,
        request: &LimitRequest<'_>,
        took: Took,
        moment: Moment,
    ) -> bool {
        if limit.is_shadow() {
            limit.metrics.shadowed.add();
            self.shadowed |= 1_u64.unbounded_shl(limit.index.into());
            return false;
        }
        self.refused = Some(inner.refused(request, limit, took, moment, None));
        let (remaining, reset) = (took.verdict.remaining, took.verdict.reset);
        self.reports.push(Report { index: limit.index, remaining, reset });
        true
    }

    /// The decision, under the policy that it was made by.
    #[inline]
    pub(super) fn under(self, policy: InForce, now: Nanos) -> Attempt {
        let Self { reports, shadowed, refused } = self;
        match refused {
            None => {
                let standing = Standing { policy, reports, shadowed };
                Attempt::Done(Decision::Allowed(Permit { standing, holding: None, decided_at: now }))
            }
            Some(Refused::Delay(wait)) => Attempt::Delay(wait, policy),
            Some(Refused::Told(told)) => refusal(told.by(policy, reports, shadowed)),
        }
    }
}

#[cold]
fn refusal(refusal: Refusal) -> Attempt {
    Attempt::Done(Decision::Refused(refusal))
}
