//! The kernel's jiffies as seen from the daemon.
//!
//! A one-map program tells jiffies and the monotonic clock side by side, once; the length of a tick is the resolution of
//! the kernel's coarse clocks. From then on jiffies follow from the monotonic clock, which is what the kernel derives
//! them from.

use std::{
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use gateway_common::time::{FARTHEST, NEVER, expiry_now, expiry_shift};

use super::{error::KernelError, sys, target::Expiry};

/// Jiffies at a moment of the monotonic clock, and the length of a tick.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base_jiffies: u64,
    base: Duration,
    tick_ns: u64,
}

impl Clock {
    /// Reads both clocks.
    pub fn read(program: BorrowedFd<'_>, readings: &[AtomicU64; 2]) -> Result<Self, KernelError> {
        let what = "reading the kernel's clock";
        let tick = sys::tick().map_err(|error| KernelError::from_io(what, error))?;
        sys::test_run(program, &[0; 64], 1, None).map_err(|error| KernelError::from_io(what, error))?;
        let (jiffies, ns) = (readings[0].load(Relaxed), readings[1].load(Relaxed));
        Ok(Self {
            base_jiffies: jiffies,
            base: Duration::from_nanos(ns),
            tick_ns: tick.as_nanos().clamp(1, 100_000_000) as u64,
        })
    }

    /// Nanoseconds of a tick.
    pub const fn tick_ns(&self) -> u64 {
        self.tick_ns
    }

    /// Jiffies now.
    pub fn jiffies(&self) -> u64 {
        self.jiffies_at(sys::monotonic())
    }

    fn jiffies_at(&self, now: Duration) -> u64 {
        let ticks = now.saturating_sub(self.base).as_nanos() / u128::from(self.tick_ns);
        self.base_jiffies + ticks as u64
    }

    /// How many ticks a duration takes, rounded up.
    pub fn ticks(&self, duration: Duration) -> u64 {
        u64::try_from(duration.as_nanos().div_ceil(u128::from(self.tick_ns))).unwrap_or(u64::MAX)
    }

    /// The shift from jiffies to expiry units.
    pub const fn shift(&self) -> u32 {
        expiry_shift(self.tick_ns)
    }

    /// Now in expiry units.
    pub fn expiry_now(&self) -> u32 {
        expiry_now(self.jiffies(), self.shift())
    }

    /// An expiry in expiry units, never early. What lies farther ahead than the units can tell (99 days at least) ends
    /// there: the ledger has to renew it.
    pub fn expiry(&self, expiry: Expiry, wall: SystemTime) -> u32 {
        self.expiry_at(expiry, wall, self.jiffies())
    }

    /// As [`expiry`](Self::expiry), at a moment in jiffies.
    pub fn expiry_at(&self, expiry: Expiry, wall: SystemTime, now: u64) -> u32 {
        let left = match expiry {
            Expiry::Never => return NEVER,
            Expiry::In(left) => left,
            Expiry::At(moment) => match moment.duration_since(wall) {
                Ok(left) => left,
                Err(_) => return expiry_now(now, self.shift()),
            },
        };
        let unit = 1u64 << self.shift();
        let farthest = now.saturating_add(u64::from(FARTHEST) * unit - unit);
        // One more tick: the reading of jiffies may have been just before the next.
        let end = now.saturating_add(self.ticks(left)).saturating_add(1).min(farthest).div_ceil(unit);
        match end as u32 & NEVER {
            NEVER => NEVER - 1,
            end => end,
        }
    }

    /// What is left until an expiry in expiry units; `None` is for ever.
    pub fn remaining(&self, expiry: u32) -> Option<Duration> {
        if expiry == NEVER {
            return None;
        }
        let now = self.jiffies();
        let units = expiry.wrapping_sub(expiry_now(now, self.shift())) & NEVER;
        if units > FARTHEST {
            return Some(Duration::ZERO);
        }
        let into_unit = now & ((1 << self.shift()) - 1);
        let ticks = (u64::from(units) << self.shift()).saturating_sub(into_unit);
        Some(Duration::from_nanos(ticks.saturating_mul(self.tick_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 4_000_000;

    fn clock(base_jiffies: u64) -> Clock {
        Clock { base_jiffies, base: sys::monotonic(), tick_ns: TICK }
    }

    #[test]
    fn expiries_are_never_early_and_at_most_two_units_late() {
        // Where jiffies begin, where 32 bits of them end, and around the end of the circle of expiries.
        for base in [4_294_892_296u64, 5_000_000_000, (1 << 33) - 2, (1 << 33) + 70_000] {
            for ms in [0u64, 1, 100, 1_000, 3_600_000, 90 * 86_400_000] {
                let left = Duration::from_millis(ms);
                let clock = clock(base);
                let remaining = clock.remaining(clock.expiry(Expiry::In(left), SystemTime::now())).unwrap();
                assert!(remaining + Duration::from_millis(20) >= left, "{ms} ms became {remaining:?}");
                assert!(remaining <= left + Duration::from_millis(320), "{ms} ms became {remaining:?}");
            }
        }
    }

    #[test]
    fn never_is_never_and_too_long_is_as_long_as_it_goes() {
        let (clock, now) = (clock(7), SystemTime::now());
        assert_eq!(clock.remaining(clock.expiry(Expiry::Never, now)), None);
        let long = clock.expiry(Expiry::In(Duration::from_secs(10 * 365 * 86_400)), now);
        assert!(clock.remaining(long).unwrap() > Duration::from_secs(99 * 86_400));
        let past = clock.expiry(Expiry::At(now - Duration::from_secs(1)), now);
        assert_eq!(clock.remaining(past), Some(Duration::ZERO));
    }
}
