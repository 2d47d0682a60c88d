//! Two counters: the current window's, and the one before weighted by the part of it that still counts.

use super::{Nanos, Rule, Verdict};

/// Counts of the window with this index (`now / window`) and of the one before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    index: u64,
    current: u32,
    previous: u32,
}

impl Counters {
    #[inline]
    pub(super) fn take(&mut self, rule: &Rule, cap: u32, now: Nanos, cost: u32) -> Verdict {
        let into = self.advance(rule, now);
        let left_of_window = rule.window - into;
        let weighted = share(self.previous, left_of_window, rule.window);
        let free = cap.saturating_sub(self.current.saturating_add(weighted));
        if cost > free {
            return Verdict { ok: false, remaining: free, reset: self.wait(rule, cap, cost, left_of_window) };
        }
        self.current += cost;
        Verdict { ok: true, remaining: free - cost, reset: left_of_window }
    }

    pub(super) fn give_back(&mut self, rule: &Rule, taken: Nanos, cost: u32) {
        let index = rule.turn.divide(taken);
        if index == self.index {
            self.current = self.current.saturating_sub(cost);
        } else if index + 1 == self.index {
            self.previous = self.previous.saturating_sub(cost);
        }
    }

    pub(super) fn expires(&self, rule: &Rule) -> Nanos {
        (self.index + 2).saturating_mul(rule.window)
    }

    /// Turns to the window of `now`; gives how far into it that is.
    #[inline]
    fn advance(&mut self, rule: &Rule, now: Nanos) -> Nanos {
        let now = now.max(self.index * rule.window);
        let index = rule.turn.divide(now);
        if index != self.index {
            self.previous = if index == self.index + 1 { self.current } else { 0 };
            self.current = 0;
            self.index = index;
        }
        now - index * rule.window
    }

    /// Time until `cost` fits: within this window if the current count allows it, else in the next.
    #[inline(never)]
    fn wait(&self, rule: &Rule, cap: u32, cost: u32, left_of_window: Nanos) -> Nanos {
        let until = |count: u32, allowed: u32| {
            // The stretch of the window, counted from its end, in which `count` weighs no more than `allowed`.
            let stretch = u128::from(rule.window) * u128::from(allowed) / u128::from(count.max(1));
            // What `share` may have rounded up.
            let rounding = (rule.window >> 30) + 4;
            u64::try_from(stretch).unwrap_or(u64::MAX).min(rule.window).saturating_sub(rounding)
        };
        match cap.checked_sub(cost) {
            None => rule.window,
            Some(room) if self.current <= room => {
                left_of_window.saturating_sub(until(self.previous, room - self.current))
            }
            Some(room) => left_of_window + rule.window - until(self.current, room),
        }
    }
}

/// `count * part / whole`, rounded up, and `count` at most.
#[inline]
fn share(count: u32, part: Nanos, whole: Nanos) -> u32 {
    if count == 0 || part >= whole {
        return count;
    }
    // 32 bits of the window are precise enough and keep this in 64 bits: it runs for each request.
    let shift = 64u32.saturating_sub(whole.leading_zeros()).saturating_sub(32);
    let (part, whole) = (part >> shift, (whole >> shift).max(1));
    ((u64::from(count) * (part + u64::from(shift > 0))).div_ceil(whole) as u32).min(count)
}
