//! What this process knows of one key of one limit.

use super::policy::{Limit, RateLimit};
use super::table::Mark;
use super::window::{Nanos, State, Verdict};

/// Nanoseconds of a second.
pub(super) const SECOND: Nanos = 1_000_000_000;

/// The units admitted here, and how often more were asked for.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Slot {
    /// When `refused` began to count, in seconds since the Unix epoch.
    refused_since_s: u32,
    /// Refusals since then, within about a window.
    refused: u16,
    pub(super) state: State,
}

/// What came of asking for units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Took {
    pub(super) verdict: Verdict,
    /// Refusals so far, where this one makes an offence.
    pub(super) offence: Option<u16>,
}

impl Slot {
    /// Takes units from the share of one of `nodes`; 1 is the whole.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        limit: &Limit,
        rate: &RateLimit,
        nodes: u32,
        now: Nanos,
        cost: u32,
    ) -> Took {
        let verdict = self.state.take_share(&rate.rule, nodes, now, cost);
        let offence = if verdict.ok { None } else { self.refuse(limit, rate, now) };
        Took { verdict, offence }
    }

    /// Counts a refusal; tells the number of them where it makes an offence.
    #[inline(never)]
    pub(super) fn refuse(&mut self, limit: &Limit, rate: &RateLimit, now: Nanos) -> Option<u16> {
        let now_s = seconds(now);
        let window_s = seconds(rate.rule.window()).max(1);
        if now_s.saturating_sub(self.refused_since_s) >= window_s {
            (self.refused, self.refused_since_s) = (0, now_s);
        }
        self.refused = self.refused.saturating_add(1);
        let every = limit.config.offence_after;
        (every > 0 && self.refused.is_multiple_of(every) && !limit.is_shadow()).then_some(self.refused)
    }

    /// What eviction should know of this.
    #[inline(always)]
    pub(super) fn mark(&self, rate: &RateLimit, verdict: &Verdict) -> Mark {
        let used = rate.rule.capacity().saturating_sub(verdict.remaining);
        let heat = if verdict.ok { (used as f32 * rate.heat) as u8 } else { u8::MAX };
        Mark { heat, expires_s: seconds(self.state.expires(&rate.rule)).saturating_add(1) }
    }
}

/// Whole seconds of a time or a stretch.
pub(super) fn seconds(nanos: Nanos) -> u32 {
    u32::try_from(nanos / SECOND).unwrap_or(u32::MAX)
}
