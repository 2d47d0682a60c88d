//! Limits for each source, by class; classes hang on prefixes of the policy trie.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use gateway_common::gcra::{CLASSES, FARTHEST, Limit, MOST_UNITS, TICK_BITS, limit};

use super::{error::KernelError, load::Loaded, mapped::LimitCell, target::Target};

/// Most units a second that a limit can let in.
const MAX_RATE: u64 = 100_000_000_000;
/// Fewest bytes a second: so that at no tick the largest frame takes longer than limiter time can tell.
const MIN_BYTE_RATE: u64 = 16;
/// A burst of bytes must at least let one large frame in.
const MIN_BYTE_BURST: u64 = 65_536;
/// Longest bar: the circle of limiter time is 4 hours at a tick of 1 ms.
const MAX_BAR: Duration = Duration::from_secs(3600);

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units a second: 1 to 100,000,000,000; for bytes at least 16.
    pub per_second: u64,
    /// Units that may come at once after a pause: at least 1; for bytes at least 65,536. The kernel's clock adds what
    /// comes in one tick.
    pub burst: u64,
}

/// When violations lead to a time barred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Packets over a limit that are forgiven.
    pub violations: u32,
    /// Within this time.
    pub within: Duration,
    /// How long the source is barred: at most an hour.
    pub lasting: Duration,
}

/// What one source (an IPv4 address or an IPv6 /64) may send. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceLimits {
    /// Packets.
    pub packets: Option<Rate>,
    /// Bytes, headers included.
    pub bytes: Option<Rate>,
    /// New TCP connections.
    pub connections: Option<Rate>,
    /// A bar for sources that go on and on.
    pub bar: Option<Bar>,
}

impl SourceLimits {
    fn check(&self) -> Result<(), KernelError> {
        let bounds = |what, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(KernelError::OutOfBounds { what, value, bounds: format!("from {low} to {high}") })
            }
        };
        for (rate, slowest, lowest) in
            [(self.packets, 1, 1), (self.bytes, MIN_BYTE_RATE, MIN_BYTE_BURST), (self.connections, 1, 1)]
        {
            if let Some(rate) = rate {
                bounds("a rate of units a second", rate.per_second, slowest, MAX_RATE)?;
                bounds("a burst", rate.burst, lowest, MAX_RATE)?;
            }
        }
        if let Some(bar) = self.bar {
            bounds("the number of violations", u64::from(bar.violations), 1, u64::from(u32::MAX))?;
            bounds("the seconds of violations", bar.within.as_secs(), 1, MAX_BAR.as_secs())?;
            bounds(
                "the milliseconds of a bar",
                bar.lasting.as_millis() as u64,
                1,
                MAX_BAR.as_millis() as u64,
            )?;
        }
        Ok(())
    }

    /// True when nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.packets.is_none() && self.bytes.is_none() && self.connections.is_none()
    }
}

impl Loaded {
    /// Writes classes and says which class each override got: equal limits share one.
    pub(super) fn write_limits(
        &self,
        default: &SourceLimits,
        overrides: &[(Target, SourceLimits)],
    ) -> Result<Vec<(Target, u32)>, KernelError> {
        let mut classes = vec![*default];
        let mut named = Vec::with_capacity(overrides.len());
        for (target, limits) in overrides {
            let class = match classes.iter().position(|class| class == limits) {
                Some(class) => class,
                None => {
                    classes.push(*limits);
                    classes.len() - 1
                }
            };
            named.push((*target, class as u32));
        }
        if classes.len() > CLASSES as usize {
            return Err(KernelError::OutOfBounds {
                what: "the number of different limits",
                value: classes.len() as u64,
                bounds: format!("at most {CLASSES}, the default included"),
            });
        }
        for class in &classes {
            class.check()?;
        }
        for (cell, class) in self.limits.iter().zip(&classes) {
            self.write_class(cell, class);
        }
        Ok(named)
    }

    fn write_class(&self, cell: &LimitCell, class: &SourceLimits) {
        let tick = self.clock.tick_ns();
        let of = |rate: Option<Rate>, most| {
            rate.map_or(Limit::default(), |rate| limit(rate.per_second, rate.burst, most, tick))
        };
        let limits = [of(class.packets, 1), of(class.bytes, MOST_UNITS), of(class.connections, 1)];
        for (to, from) in cell.limits.iter().zip(limits) {
            to[1].store(from.tolerance, Relaxed);
            to[0].store(from.cost, Relaxed);
        }
        let (violations, penalty) = class.bar.map_or((Limit::default(), 0), |bar| {
            // A rate under one a second: the limit of as many in `within`, stretched.
            let seconds = bar.within.as_secs().max(1);
            let stretched = limit(u64::from(bar.violations), u64::from(bar.violations), 1, tick);
            let limit = Limit {
                cost: stretched.cost.saturating_mul(seconds).min(FARTHEST),
                tolerance: stretched.tolerance.saturating_mul(seconds).min(FARTHEST),
            };
            (limit, self.clock.ticks(bar.lasting) << TICK_BITS)
        });
        cell.violations[1].store(violations.tolerance, Relaxed);
        cell.violations[0].store(violations.cost, Relaxed);
        cell.penalty.store(penalty, Relaxed);
    }
}
