//! The arithmetic of rates: pure, `now` is an argument, one [`State`] for each key of a limit.
//!
//! Two ways to keep a count ([`Algorithm`]), one contract each:
//! - [`log`]: in no stretch of time as long as the window are more than `quota` units admitted. Kept in at most
//!   32 marks of `quota / 32` units, so it admits down to 97% of what an exact log would, never more.
//! - [`gcra`]: in no stretch of time `t` are more than `burst + t * quota / window` units admitted.
//!
//! Time never runs backwards here: a `now` before the latest one seen counts as that one.

mod divisor;
mod gcra;
mod log;

use std::time::Duration;

pub use crate::config::limits::Algorithm;
use crate::config::limits::Rate;
use divisor::Divisor;

/// Nanoseconds since the Unix epoch (enough until the year 2554), or a stretch of so many.
pub type Nanos = u64;

/// Marks that a log has at most.
pub const MARKS: u32 = log::MARKS as u32;
/// Ticks that a log divides its window into, at most: its resolution is 0.01% of the window.
pub const TICKS: u64 = 1 << 14;

/// What a state is judged by: a [`Rate`] made ready to count with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    algorithm: Algorithm,
    quota: u32,
    burst: u32,
    window: Nanos,
    /// Logs: nanoseconds a tick.
    tick: Divisor,
    /// Logs: a mark of tick `s` is forgotten at tick `s + lifetime`.
    lifetime: u64,
    /// Logs: units a mark.
    grain: u32,
    /// GCRA: nanoseconds a unit, rounded up.
    spacing: Divisor,
}

impl Rule {
    /// A rule of `quota` units in `window`, `burst` at once for GCRA. Zeroes count as one.
    pub fn new(algorithm: Algorithm, quota: u32, window: Duration, burst: u32) -> Self {
        let quota = quota.max(1);
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX >> 8).max(1);
        let tick = window.div_ceil(TICKS);
        Self {
            algorithm,
            quota,
            burst: burst.max(1),
            window,
            tick: Divisor::new(tick),
            // A unit admitted anywhere in tick s must be remembered until s's end plus the window.
            lifetime: window.div_ceil(tick) + 1,
            grain: quota.div_ceil(MARKS),
            spacing: Divisor::new(window.div_ceil(u64::from(quota))),
        }
    }

    /// How the count is kept.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Units in a window.
    pub fn quota(&self) -> u32 {
        self.quota
    }

    /// Most units that can be had at one moment: the quota, for GCRA the burst.
    pub fn capacity(&self) -> u32 {
        if self.algorithm == Algorithm::Gcra { self.burst } else { self.quota }
    }

    /// The window.
    pub fn window(&self) -> Nanos {
        self.window
    }

    /// Units a mark of a log.
    pub fn grain(&self) -> u32 {
        self.grain
    }

    /// The capacity that one of `nodes` has by itself: an even share, at least 1.
    #[inline]
    pub fn share(&self, nodes: u32) -> u32 {
        if nodes <= 1 {
            return self.capacity().max(1);
        }
        (self.capacity() / nodes).max(1)
    }
}

impl From<&Rate> for Rule {
    fn from(rate: &Rate) -> Self {
        Self::new(rate.algorithm, rate.quota, rate.window, rate.burst)
    }
}

/// What a key has used so far. `Empty` is a key that was never seen.
#[derive(Debug, Clone, Copy, Default)]
pub enum State {
    /// Nothing.
    #[default]
    Empty,
    /// Marks.
    Log(log::Log),
    /// A theoretical arrival time.
    Gcra(gcra::Gcra),
}

/// Whether units were to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether they were taken.
    pub ok: bool,
    /// Units that are left now.
    pub remaining: u32,
    /// If taken: until used units begin to come back (GCRA: until all have). If not: until as many could be had,
    /// provided that nobody takes any before.
    pub reset: Nanos,
}

impl State {
    /// Nothing used, in the form that the rule counts in.
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::SlidingWindow => Self::Log(log::Log::default()),
            Algorithm::Gcra => Self::Gcra(gcra::Gcra::default()),
        }
    }

    #[inline(always)]
    fn ready(&mut self, rule: &Rule) {
        match (&self, rule.algorithm) {
            (Self::Log(_), Algorithm::SlidingWindow) | (Self::Gcra(_), Algorithm::Gcra) => {}
            (_, algorithm) => *self = Self::of(algorithm),
        }
    }

    /// Takes `cost` units at `now` if all of them are to be had.
    #[inline]
    pub fn take(&mut self, rule: &Rule, now: Nanos, cost: u32) -> Verdict {
        self.take_share(rule, 1, now, cost)
    }

    /// As [`State::take`], where only an even share of one of `nodes` may be used: what a node admits by itself
    /// while it cannot ask the others. For a log all that this state has seen counts against the share; GCRA keeps a second arrival time for it, `nodes` times as slow.
    #[inline(always)]
    pub fn take_share(&mut self, rule: &Rule, nodes: u32, now: Nanos, cost: u32) -> Verdict {
        self.ready(rule);
        match self {
            Self::Empty => Verdict { ok: false, remaining: 0, reset: rule.window },
            Self::Log(log) => log.take(rule, rule.share(nodes), now, cost),
            Self::Gcra(gcra) if nodes > 1 => gcra.take_share(rule, nodes, now, cost),
            Self::Gcra(gcra) => gcra.take(rule, now, cost),
        }
    }

    /// Takes up to `cost` units whether or not they are to be had: for costs known only afterwards. What is over
    /// the capacity is not remembered.
    pub fn charge(&mut self, rule: &Rule, now: Nanos, cost: u32) {
        let have = self.peek(rule, now, 0).remaining;
        self.take(rule, now, cost.min(have));
    }

    /// What [`State::take`] would say, taking nothing.
    pub fn peek(&self, rule: &Rule, now: Nanos, cost: u32) -> Verdict {
        let mut copy = *self;
        copy.take(rule, now, cost)
    }

    /// Gives back `cost` units that were taken at `taken`. Where it cannot be known any more what they were
    /// counted as, fewer or none come back, so that the contract holds.
    pub fn give_back(&mut self, rule: &Rule, taken: Nanos, now: Nanos, cost: u32) {
        self.ready(rule);
        match self {
            Self::Empty => {}
            Self::Log(log) => log.give_back(rule, taken, now, cost),
            Self::Gcra(gcra) => gcra.give_back(rule, taken, cost),
        }
    }

    /// When nothing of this will count any more.
    #[inline]
    pub fn expires(&self, rule: &Rule) -> Nanos {
        match self {
            Self::Empty => 0,
            Self::Log(log) => log.expires(rule),
            Self::Gcra(gcra) => gcra.expires(),
        }
    }
}

#[cfg(test)]
mod tests;
