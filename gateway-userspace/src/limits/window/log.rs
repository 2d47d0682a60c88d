//! A sliding log in at most 32 marks.
//!
//! Each mark stands for `grain` units (the newest for the `fill` that it has so far) and holds the tick of the
//! latest of them; all units of a mark are forgotten together, when the latest is. With a quota of 32 or less
//! a mark is one unit, and the log is exact to a tick.

use super::{Nanos, Rule, Verdict};

/// Most marks.
pub(super) const MARKS: usize = 32;

/// The marks, oldest first, as the low 16 bits of their ticks: all lie within a window before `last`, and a
/// window has far fewer than 2^16 ticks.
///
/// What every decision reads stands first, on one cache line with the oldest marks.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Log {
    /// The tick of the newest mark.
    last: u64,
    /// Units in the newest mark, 1 to the grain; 0 in an empty log.
    fill: u32,
    len: u8,
    /// Says nothing. Its unused values tell the variants of [`super::State`] apart, which saves eight bytes a key.
    niche: bool,
    marks: [u16; MARKS],
}

impl Log {
    #[inline]
    pub(super) fn take(&mut self, rule: &Rule, cap: u32, now: Nanos, cost: u32) -> Verdict {
        let tick = self.advance(rule, now);
        let used = self.used(rule);
        let free = cap.saturating_sub(used);
        if cost > free {
            return Verdict { ok: false, remaining: free, reset: self.wait(rule, cap, used, cost, now) };
        }
        self.add(rule, tick, cost);
        Verdict { ok: true, remaining: free - cost, reset: self.until_forgotten(rule, 0, now) }
    }

    pub(super) fn give_back(&mut self, rule: &Rule, taken: Nanos, now: Nanos, cost: u32) {
        let tick = self.advance(rule, now);
        let taken = rule.tick.divide(taken);
        if taken + rule.lifetime <= tick {
            return;
        }
        // The units lie in the first mark that is not older than they are, or behind it. From there on each
        // mark's units are replaced by those `cost` places later, whose marks are later or the same: what is
        // left is remembered at least as long as it should be.
        let used = self.used(rule);
        let cost = cost.min(used);
        let old = *self;
        let first = (0..self.len()).find(|i| old.tick_of(*i) >= taken).unwrap_or(self.len());
        // Fewer than that were counted since then: what was taken is not in this log.
        if cost == 0 || used.saturating_sub(first as u32 * rule.grain) < cost {
            return;
        }
        let left = used - cost;
        let len = left.div_ceil(rule.grain) as usize;
        for i in first..len {
            let end = (i as u32 + 1).saturating_mul(rule.grain).min(left);
            let from = ((end - 1 + cost) / rule.grain) as usize;
            self.marks[i] = old.marks[from.min(old.len() - 1)];
        }
        self.len = len as u8;
        self.fill = if len == 0 { 0 } else { left - (len as u32 - 1) * rule.grain };
        if let Some(newest) = len.checked_sub(1) {
            // `last` names the newest mark's tick; older marks are decoded from it.
            self.last = old.tick_of_raw(self.marks[newest]);
        }
    }

    #[inline]
    pub(super) fn expires(&self, rule: &Rule) -> Nanos {
        if self.len == 0 { 0 } else { (self.last + rule.lifetime).saturating_mul(rule.tick.get()) }
    }

    /// Forgets what is older than the window; gives the tick of `now`.
    #[inline(always)]
    fn advance(&mut self, rule: &Rule, now: Nanos) -> u64 {
        let tick = rule.tick.divide(now).max(self.last);
        let since = tick - self.last;
        if since >= rule.lifetime {
            self.len = 0;
            self.fill = 0;
            return tick;
        }
        let oldest_kept = rule.lifetime - since;
        let newest = self.last as u16;
        let mut gone = 0;
        while gone < self.len() && u64::from(newest.wrapping_sub(self.marks[gone])) >= oldest_kept {
            gone += 1;
        }
        if gone > 0 {
            self.forget(gone);
        }
        tick
    }

    /// Forgets the oldest marks.
    fn forget(&mut self, gone: usize) {
        let len = self.len();
        self.marks.copy_within(gone..len, 0);
        self.len -= gone as u8;
        if self.len == 0 {
            self.fill = 0;
        }
    }

    #[inline]
    fn add(&mut self, rule: &Rule, tick: u64, cost: u32) {
        let mut left = cost;
        if left == 0 {
            return;
        }
        self.last = tick;
        if self.len > 0 {
            let here = left.min(rule.grain - self.fill);
            if here > 0 {
                self.marks[self.len() - 1] = tick as u16;
                self.fill += here;
                left -= here;
            }
        }
        // At most 32 marks: all but the newest are full, and used units never pass the quota.
        while left > 0 && self.len() < MARKS {
            self.fill = left.min(rule.grain);
            self.marks[self.len()] = tick as u16;
            self.len += 1;
            left -= self.fill;
        }
    }

    #[inline(never)]
    fn wait(&self, rule: &Rule, cap: u32, used: u32, cost: u32, now: Nanos) -> Nanos {
        if cost > cap || self.len == 0 {
            return rule.window;
        }
        let short = (used + cost).saturating_sub(cap);
        let mark = (short.div_ceil(rule.grain) as usize).clamp(1, self.len()) - 1;
        self.until_forgotten(rule, mark, now)
    }

    #[inline]
    fn until_forgotten(&self, rule: &Rule, mark: usize, now: Nanos) -> Nanos {
        if mark >= self.len() {
            return 0;
        }
        (self.tick_of(mark) + rule.lifetime).saturating_mul(rule.tick.get()).saturating_sub(now)
    }

    #[inline]
    fn used(&self, rule: &Rule) -> u32 {
        match u32::from(self.len) {
            0 => 0,
            n => (n - 1) * rule.grain + self.fill,
        }
    }

    #[inline]
    fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    fn tick_of(&self, mark: usize) -> u64 {
        self.tick_of_raw(self.marks[mark])
    }

    #[inline]
    fn tick_of_raw(&self, mark: u16) -> u64 {
        self.last.saturating_sub(u64::from((self.last as u16).wrapping_sub(mark)))
    }
}
