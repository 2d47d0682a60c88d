//! Defences against floods of many sources: budget for new cells, sketch, gate for new connections, cookies.

use std::{fmt, fs, ops::RangeInclusive, sync::atomic::Ordering::Relaxed};

use gateway_common::gcra::{Limit, limit};

use super::{State, error::KernelError, limits::Rate, load::Loaded};

/// Most new connections a second that a gate can let in.
const MAX_GATE: u64 = 1_000_000_000;
/// Most new sources a second and CPU.
const MAX_NEW_SOURCES: u64 = 1_000_000_000;
/// Most new connections that a CPU takes out of the gate at once.
const MAX_BATCH: u64 = 64;

/// Bounds for what all sources do together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloodLimits {
    /// Sources that a CPU gives a cell of the limiter in a second: 0 to 1,000,000,000. Those beyond are counted in the
    /// sketch only, and push no known source out.
    pub new_sources: u64,
    /// Packets a second of one source that has no cell, within one CPU: 1 to 400,000; none is no bound. It counts only in
    /// a flood, as otherwise every source has one.
    pub heavy: Option<u32>,
    /// New TCP connections that the whole host takes; none is no bound.
    pub connections: Option<Rate>,
    /// TCP ports that answer connections beyond that with cookies (RFC 4987 section 3.6) instead of refusing them.
    pub cookies: Vec<RangeInclusive<u16>>,
}

impl Default for FloodLimits {
    fn default() -> Self {
        Self { new_sources: 100_000, heavy: None, connections: None, cookies: Vec::new() }
    }
}

impl FloodLimits {
    fn check(&self) -> Result<(), KernelError> {
        let bounds = |what, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(KernelError::OutOfBounds { what, value, bounds: format!("from {low} to {high}") })
            }
        };
        bounds("the number of new sources a second", self.new_sources, 0, MAX_NEW_SOURCES)?;
        if let Some(heavy) = self.heavy {
            bounds("the packets a second of an untracked source", u64::from(heavy), 1, 400_000)?;
        }
        if let Some(rate) = self.connections {
            bounds("new connections a second", rate.per_second, 1, MAX_GATE)?;
            bounds("the burst of new connections", rate.burst, 1, MAX_GATE)?;
        }
        Ok(())
    }
}

impl Loaded {
    /// Writes the bounds. True when there is something to check.
    pub(super) fn write_flood(&self, limits: &FloodLimits) -> Result<bool, KernelError> {
        limits.check()?;
        let control = &self.control[0];
        let tick = self.clock.tick_ns().max(1);
        // Rounded up, so that few a second is not none.
        let each_tick = |per_second: u64| (u128::from(per_second) * u128::from(tick)).div_ceil(1_000_000_000);
        control.insert_budget.store(each_tick(limits.new_sources) as u32, Relaxed);
        let window = tick << control.window_shift.load(Relaxed);
        let heavy = limits.heavy.map_or(0, |heavy| {
            let packets = (u128::from(heavy) * u128::from(window)).div_ceil(1_000_000_000);
            u32::try_from(packets).unwrap_or(u32::MAX)
        });
        control.heavy.store(heavy, Relaxed);
        let (gate, batch) = limits.connections.map_or((Limit::default(), 1), |rate| {
            let batch = (each_tick(rate.per_second) as u64 / 8).clamp(1, MAX_BATCH).min(rate.burst);
            (limit(rate.per_second, rate.burst, MAX_BATCH, tick), batch)
        });
        control.gate_batch.store(batch as u32, Relaxed);
        control.gate[1].store(gate.tolerance, Relaxed);
        control.gate[0].store(gate.cost, Relaxed);
        Ok(limits.heavy.is_some() || limits.connections.is_some())
    }
}

impl State {
    /// Has the ports answer with cookies as long as the host's own TCP can check them: where it cannot, the program would let
    /// every connection through, for there is no cookie to be had, and the listener does without.
    pub(super) fn follow_cookies(&mut self) {
        let cookies = Cookies::probe();
        if self.cookies != Some(cookies) {
            let ports = if cookies == Cookies::Available { self.cookie_ports.as_slice() } else { &[] };
            self.loaded.write_cookie_ports(ports);
            self.cookies = Some(cookies);
        }
    }
}

/// Whether the host's own TCP can check the cookies that the program hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// It can.
    Available,
    /// The kernel was built without them (CONFIG_SYN_COOKIES).
    NotBuilt,
    /// net.ipv4.tcp_syncookies is 0.
    SwitchedOff,
}

impl Cookies {
    /// Asks the kernel, for this network namespace.
    pub fn probe() -> Self {
        Self::of(fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").ok().as_deref())
    }

    /// By the text of the sysctl; a kernel built without cookies has none.
    fn of(sysctl: Option<&str>) -> Self {
        match sysctl.map(str::trim) {
            Some("0") => Self::SwitchedOff,
            Some(_) => Self::Available,
            None => Self::NotBuilt,
        }
    }
}

impl fmt::Display for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Available => "available",
            Self::NotBuilt => "off: this kernel is built without CONFIG_SYN_COOKIES",
            Self::SwitchedOff => {
                "off: net.ipv4.tcp_syncookies is 0; set it to 1 (`sysctl -w net.ipv4.tcp_syncookies=1`)"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_cookies_is_told_why() {
        for (sysctl, cookies, said) in [
            (Some("1\n"), Cookies::Available, "available"),
            (Some("2\n"), Cookies::Available, "available"),
            (Some("0\n"), Cookies::SwitchedOff, "sysctl -w net.ipv4.tcp_syncookies=1"),
            (None, Cookies::NotBuilt, "CONFIG_SYN_COOKIES"),
        ] {
            assert_eq!(Cookies::of(sysctl), cookies, "{sysctl:?}");
            assert!(cookies.to_string().contains(said), "{cookies}");
        }
    }
}
