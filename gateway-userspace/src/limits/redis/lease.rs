//! Units taken from Redis that this node may spend without asking again.
//!
//! A lease ends a fixed time after it was asked for, by this node's own clock, which is never later than that time
//! after Redis counted it. Whoever spends reads that clock while nobody else can touch the lease: a request that
//! brought its own `now` along would spend past the end by as long as it was not run in between. How much is asked for follows what was spent: a key that uses its lease up early gets
//! more, one that lets units lapse gets less.

use super::script::lease_length;
use crate::limits::window::Nanos;

/// Most units asked for at a time.
const MAX_CHUNK: u32 = 1 << 20;
/// From this chunk on the next lease is asked for before the last is used up.
const AHEAD_FROM: u32 = 8;

/// A lease, the next one if it has come already, and what Redis last refused.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lease {
    end: Nanos,
    next_end: Nanos,
    began: Nanos,
    denied_until: Nanos,
    /// Units whose lease ended unspent, to be given back, and when the oldest of them was counted there.
    lapsed: u32,
    lapsed_us: u64,
    /// Somebody waits for the end of the lease, to give back what is left.
    pub(super) returning: bool,
    /// When Redis may be asked again about what it refused: units may have come back.
    ask_again: Nanos,
    /// When a request was last sent on its way to ask ahead.
    asked_ahead: Nanos,
    /// The server's clock when the oldest unit in hand was counted, in microseconds.
    counted_us: u64,
    next_counted_us: u64,
    left: u32,
    next_left: u32,
    spent: u32,
    chunk: u32,
    /// Requests that found nothing since the last answer: they wait for the next.
    missed: u32,
    /// Units left in Redis when it last answered.
    pub(super) left_there: u32,
    /// The fewest units that were denied.
    denied_cost: u32,
}

/// The lease that units were spent from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::limits) struct Batch {
    end: Nanos,
    /// The server's clock when the oldest of its units was counted, in microseconds.
    pub(in crate::limits) counted_us: u64,
}

/// What the lease has for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// Units are here; `ahead`: the next lease should be asked for now.
    Here { ahead: bool },
    /// Redis said that there are none until then.
    Denied { wait: Nanos },
    /// It has to be asked.
    Unknown,
}

impl Lease {
    /// Looks for `cost` units, taking nothing.
    pub(super) fn look(&mut self, window: Nanos, now: Nanos, cost: u32) -> Holding {
        self.turn(now);
        if self.left < cost && self.next_left >= cost && self.next_end > now {
            self.adapt(window, now);
            self.promote(now);
        }
        if self.left >= cost && self.end > now {
            let low = self.left - cost <= self.chunk / 4 && self.chunk >= AHEAD_FROM && self.next_left == 0;
            let ahead = low && now.saturating_sub(self.asked_ahead) > lease_length(window) / 4;
            if ahead {
                self.asked_ahead = now;
            }
            return Holding::Here { ahead };
        }
        if self.denied_until > now && self.ask_again > now && cost >= self.denied_cost {
            return Holding::Denied { wait: self.denied_until - now };
        }
        self.missed = self.missed.saturating_add(cost);
        Holding::Unknown
    }

    /// Spends what [`Lease::look`] found.
    pub(super) fn spend(&mut self, cost: u32) -> Batch {
        self.left = self.left.saturating_sub(cost);
        self.spent = self.spent.saturating_add(cost);
        Batch { end: self.end, counted_us: self.counted_us }
    }

    /// Puts back what was spent, for as long as the lease that it came from lasts. In another lease it could be
    /// spent for longer than Redis counts it.
    pub(super) fn put_back(&mut self, from: Batch, now: Nanos, cost: u32) {
        let same = self.end == from.end && self.counted_us == from.counted_us;
        if same && self.end > now {
            self.left = self.left.saturating_add(cost);
            self.spent = self.spent.saturating_sub(cost);
        } else {
            self.lapse(cost, from.counted_us);
        }
    }

    /// What [`Lease::look`] did not find was decided without asking.
    pub(super) fn not_asked(&mut self, cost: u32) {
        self.missed = self.missed.saturating_sub(cost);
    }

    /// How many units to ask for: what waits for them, and ahead of that at most a 32nd of the capacity, so that
    /// what lapses after a burst is little.
    pub(super) fn wanted(&mut self, window: Nanos, now: Nanos, need: u32, capacity: u32) -> u32 {
        self.adapt(window, now);
        self.chunk = self.chunk.min(capacity / 32);
        self.chunk.max(self.missed).max(need).clamp(1, MAX_CHUNK)
    }

    /// Takes in an answer to what was asked at `sent`.
    pub(super) fn granted(
        &mut self,
        window: Nanos,
        sent: Nanos,
        units: u32,
        left_there: u32,
        counted_us: u64,
    ) {
        let end = sent + lease_length(window);
        self.left_there = left_there;
        self.missed = 0;
        self.denied_until = 0;
        if self.left == 0 || self.end <= sent {
            self.lapse(self.left, self.counted_us);
            (self.left, self.end, self.began, self.spent) = (units, end, sent, 0);
            self.counted_us = counted_us;
        } else if self.next_left == 0 || self.next_end <= sent {
            self.lapse(self.next_left, self.next_counted_us);
            (self.next_left, self.next_end, self.next_counted_us) = (units, end, counted_us);
        } else {
            self.next_left = self.next_left.saturating_add(units);
            self.next_end = self.next_end.min(end);
            self.next_counted_us = self.next_counted_us.min(counted_us);
        }
    }

    /// Takes in a refusal of what was asked at `sent`.
    pub(super) fn denied(&mut self, window: Nanos, sent: Nanos, cost: u32, left_there: u32, wait: Nanos) {
        self.ask_again = sent.saturating_add(ask_again_after(window));
        self.left_there = left_there;
        self.missed = 0;
        self.denied_until = sent.saturating_add(wait);
        self.denied_cost = cost;
    }

    /// Units that lapsed, and when the oldest of them was counted by the server's clock: they can be given back, since
    /// nobody here can spend them any more.
    pub(super) fn take_lapsed(&mut self, now: Nanos) -> Option<(u32, u64)> {
        self.turn(now);
        let units = std::mem::take(&mut self.lapsed);
        (units > 0).then_some((units, self.lapsed_us))
    }

    /// When the last of what is in hand ends.
    pub(super) fn ends(&self) -> Nanos {
        if self.next_left > 0 { self.end.max(self.next_end) } else { self.end }
    }

    /// When nothing of this is of use any more.
    pub(super) fn expires(&self) -> Nanos {
        self.end.max(self.next_end).max(self.denied_until)
    }

    /// Units in hand.
    pub(super) fn in_hand(&self, now: Nanos) -> u32 {
        let next = if self.next_end > now { self.next_left } else { 0 };
        if self.end > now { self.left.saturating_add(next) } else { next }
    }

    /// Lets a lease lapse whose time is up.
    fn turn(&mut self, now: Nanos) {
        if self.end > now || self.end == 0 {
            return;
        }
        if self.left > 0 {
            self.chunk = self.spent;
        }
        self.promote(now);
    }

    fn promote(&mut self, now: Nanos) {
        self.lapse(self.left, self.counted_us);
        (self.left, self.end, self.began, self.spent) = (self.next_left, self.next_end, now, 0);
        self.counted_us = self.next_counted_us;
        (self.next_left, self.next_end) = (0, 0);
        if self.end <= now {
            self.lapse(self.left, self.counted_us);
            self.left = 0;
            self.end = 0;
        }
    }

    fn lapse(&mut self, units: u32, counted_us: u64) {
        if units > 0 {
            self.lapsed_us = if self.lapsed > 0 { self.lapsed_us.min(counted_us) } else { counted_us };
            self.lapsed = self.lapsed.saturating_add(units);
        }
    }

    /// Sets the chunk to what would have lasted as long as a lease does, at most four times what was spent.
    fn adapt(&mut self, window: Nanos, now: Nanos) {
        if self.spent == 0 {
            return;
        }
        let lasted = now.saturating_sub(self.began).max(1);
        let whole = u128::from(self.spent) * u128::from(lease_length(window)) / u128::from(lasted);
        let whole = u32::try_from(whole).unwrap_or(u32::MAX);
        self.chunk = whole.min(self.spent.saturating_mul(4)).max(self.spent);
    }
}

/// How soon Redis is asked again about a key that it refused: other nodes may have given back what they did not spend.
fn ask_again_after(window: Nanos) -> Nanos {
    (window / 16).max(lease_length(window))
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
