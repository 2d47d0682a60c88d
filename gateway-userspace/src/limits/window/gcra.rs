//! The generic cell rate algorithm (ITU-T I.371), in its virtual-scheduling form.

use super::divisor::Divisor;
use super::{Nanos, Rule, Verdict};

/// The theoretical arrival time of the next unit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gcra {
    tat: Nanos,
    /// When units were last taken: only those can be given back. Without an earlier unit the later ones might
    /// have found the bucket idle, and by how much is not known any more.
    last: Nanos,
    /// The same for a node's share.
    share_tat: Nanos,
}

impl Gcra {
    #[inline]
    pub(super) fn take(&mut self, rule: &Rule, now: Nanos, cost: u32) -> Verdict {
        let (verdict, tat) = schedule(self.tat, now, rule.spacing, rule.burst, cost);
        if verdict.ok && cost > 0 {
            self.tat = tat;
            self.last = now;
        }
        verdict
    }

    pub(super) fn take_share(&mut self, rule: &Rule, nodes: u32, now: Nanos, cost: u32) -> Verdict {
        let spacing = Divisor::new(rule.spacing.get().saturating_mul(u64::from(nodes)));
        let (verdict, tat) = schedule(self.share_tat, now, spacing, rule.share(nodes), cost);
        if verdict.ok {
            self.share_tat = tat;
            // What the node admits by itself counts when all nodes are together again.
            self.tat = self.tat.max(now).saturating_add(rule.spacing.get().saturating_mul(u64::from(cost)));
            self.last = now;
        }
        verdict
    }

    pub(super) fn give_back(&mut self, rule: &Rule, taken: Nanos, cost: u32) {
        if self.last == taken {
            self.tat = self.tat.saturating_sub(rule.spacing.get().saturating_mul(u64::from(cost)));
        }
    }

    pub(super) fn expires(&self) -> Nanos {
        self.tat.max(self.share_tat)
    }
}

#[inline]
fn schedule(tat: Nanos, now: Nanos, spacing: Divisor, burst: u32, cost: u32) -> (Verdict, Nanos) {
    let tolerance = spacing.get().saturating_mul(u64::from(burst));
    let busy = tat.saturating_sub(now);
    let after = busy.saturating_add(spacing.get().saturating_mul(u64::from(cost)));
    let remaining = |busy: Nanos| spacing.divide(tolerance.saturating_sub(busy)) as u32;
    if after > tolerance {
        let reset = after - tolerance;
        (Verdict { ok: false, remaining: remaining(busy), reset }, tat)
    } else {
        (Verdict { ok: true, remaining: remaining(after), reset: after }, now + after)
    }
}
