//! Units taken from Redis that this node may spend without asking again.
//!
//! A lease ends a fixed time after it was asked for, by this node's own clock, which is never later than that time
//! after Redis counted it. How much is asked for follows what was spent: a key that uses its lease up early gets
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
    pub(super) counted_us: u64,
    next_counted_us: u64,
    before_us: u64,
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
    pub(super) fn spend(&mut self, cost: u32) {
        self.left = self.left.saturating_sub(cost);
        self.spent = self.spent.saturating_add(cost);
    }

    /// Puts back what was spent, for as long as the lease lasts.
    pub(super) fn put_back(&mut self, taken: Nanos, now: Nanos, cost: u32) {
        if self.end > now {
            if self.began > taken {
                // They are of the lease before: if they lapse, they are given back as old as they are.
                self.counted_us = self.counted_us.min(self.before_us);
            }
            self.left = self.left.saturating_add(cost);
            self.spent = self.spent.saturating_sub(cost);
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
            self.before_us = self.counted_us;
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
        self.before_us = self.counted_us;
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
mod tests {
    use super::*;

    const WINDOW: Nanos = 60_000_000_000;
    const MS: Nanos = 1_000_000;
    const NOW: Nanos = 1_700_000_000_000 * MS;

    #[test]
    fn a_lease_ends() {
        let mut lease = Lease::default();
        assert_eq!(lease.look(WINDOW, NOW, 1), Holding::Unknown);
        lease.granted(WINDOW, NOW, 5, 95, 7);
        for _ in 0..2 {
            assert_eq!(lease.look(WINDOW, NOW + MS, 1), Holding::Here { ahead: false });
            lease.spend(1);
        }
        assert_eq!(lease.in_hand(NOW + MS), 3);
        assert_eq!(
            lease.look(WINDOW, NOW + lease_length(WINDOW), 1),
            Holding::Unknown,
            "what is left lapses"
        );
        assert_eq!(lease.wanted(WINDOW, NOW + lease_length(WINDOW), 1, 1_000), 2, "as much as was spent");
    }

    #[test]
    fn a_hot_key_asks_ahead_for_more_and_more() {
        let mut lease = Lease::default();
        let (mut now, mut asked, mut spent) = (NOW, 0, 0);
        // 10,000 requests a second for four seconds; each answer takes a millisecond.
        let mut answer: Option<(Nanos, u32)> = None;
        let mut waiting = 0;
        while now < NOW + 4_000 * MS {
            if let Some((sent, units)) = answer.filter(|(sent, _)| now >= sent + MS) {
                lease.granted(WINDOW, sent, units, 1_000_000, 0);
                answer = None;
            }
            match lease.look(WINDOW, now, 1) {
                Holding::Here { ahead } => {
                    lease.spend(1);
                    spent += 1;
                    if ahead && answer.is_none() {
                        asked += 1;
                        answer = Some((now, lease.wanted(WINDOW, now, 1, 1_000_000)));
                    }
                }
                Holding::Unknown => {
                    waiting += 1;
                    if answer.is_none() {
                        asked += 1;
                        answer = Some((now, lease.wanted(WINDOW, now, 1, 1_000_000)));
                    }
                }
                Holding::Denied { .. } => panic!("nobody denied"),
            }
            now += MS / 10;
        }
        assert!(spent + waiting == 40_000 && waiting < 100, "{spent} spent, {waiting} waited");
        assert!(asked < 60, "{asked} commands for 40,000 requests");
    }

    #[test]
    fn a_burst_leaves_little_behind() {
        let mut lease = Lease::default();
        for burst in 0..3 {
            let now = NOW + burst * 10_000 * MS;
            let (mut asked, mut served) = (0, 0);
            while served < 20 {
                if lease.look(WINDOW, now, 1) == Holding::Unknown {
                    let units = lease.wanted(WINDOW, now, 1, 100);
                    lease.granted(WINDOW, now, units, 100, 0);
                    asked += units;
                } else {
                    lease.spend(1);
                    served += 1;
                }
            }
            assert!(asked <= 22, "{asked} units for 20 requests");
        }
    }

    #[test]
    fn a_denial_is_remembered() {
        let mut lease = Lease::default();
        lease.denied(WINDOW, NOW, 3, 2, 500 * MS);
        assert_eq!(lease.look(WINDOW, NOW + 100 * MS, 3), Holding::Denied { wait: 400 * MS });
        assert_eq!(lease.look(WINDOW, NOW + 100 * MS, 2), Holding::Unknown, "less may be had");
        assert_eq!(lease.look(WINDOW, NOW + 500 * MS, 3), Holding::Unknown);
        lease.denied(WINDOW, NOW, 1, 0, WINDOW);
        assert_eq!(lease.look(WINDOW, NOW + WINDOW / 32, 1), Holding::Denied { wait: WINDOW - WINDOW / 32 });
        assert_eq!(lease.look(WINDOW, NOW + WINDOW / 16, 1), Holding::Unknown, "units may have come back");
    }

    #[test]
    fn what_lapses_is_given_back_once() {
        let mut lease = Lease::default();
        let length = lease_length(WINDOW);
        lease.granted(WINDOW, NOW, 10, 90, 7);
        lease.look(WINDOW, NOW + MS, 1);
        lease.spend(1);
        assert_eq!(lease.take_lapsed(NOW + MS), None, "it can still be spent here");
        lease.granted(WINDOW, NOW + 2 * MS, 5, 85, 9);
        assert_eq!(lease.ends(), NOW + 2 * MS + length);
        assert_eq!(lease.take_lapsed(NOW + length), Some((9, 7)), "the first lease is over");
        assert_eq!(lease.in_hand(NOW + length), 5);
        assert_eq!(lease.take_lapsed(NOW + 2 * length), Some((5, 9)));
        assert_eq!(lease.take_lapsed(NOW + 3 * length), None);
        assert_eq!(lease.in_hand(NOW + 3 * length), 0);
    }
}
