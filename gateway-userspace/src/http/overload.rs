//! Overload: requests are turned away before memory or descriptors run out.
//!
//! Memory is looked at now and then (resident bytes against `[http] max_memory`). Descriptors need no looking: the
//! kernel hands out the lowest free number, so the number of a new connection says how many are in use.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often memory is looked at.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Past the bound by this part (in hundredths) connections are closed at once.
const HARD: u64 = 108;
/// Under the bound by this part (in hundredths) requests are taken again.
const RELEASE: u64 = 95;
/// The part (in hundredths) of a control group's memory that is the bound where none is configured.
const OF_CGROUP: u64 = 85;

/// What a new connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Service.
    Enough,
    /// 503 for its first request.
    Little,
    /// Nothing: it is closed.
    None,
}

#[derive(Debug)]
pub(super) struct Overload {
    /// Bytes that the control group allows; 0 where there is no bound.
    cgroup: u64,
    page: u64,
    /// Most descriptors (RLIMIT_NOFILE).
    descriptors: u64,
    is_shedding: AtomicBool,
    is_hard: AtomicBool,
    resident: AtomicU64,
    shed_memory: AtomicU64,
    shed_descriptors: AtomicU64,
}

impl Overload {
    /// Reads the bounds that the system sets.
    pub(super) fn of_system() -> Self {
        Self::new(cgroup_limit(), nofile_limit().unwrap_or(u64::MAX))
    }

    fn new(cgroup: u64, descriptors: u64) -> Self {
        Self {
            cgroup,
            page: page_size(),
            descriptors,
            is_shedding: AtomicBool::new(false),
            is_hard: AtomicBool::new(false),
            resident: AtomicU64::new(0),
            shed_memory: AtomicU64::new(0),
            shed_descriptors: AtomicU64::new(0),
        }
    }

    /// Looks at memory; `configured` is `[http] max_memory`.
    pub(super) fn look(&self, configured: Option<u64>) {
        let bound = configured.unwrap_or(self.cgroup / 100 * OF_CGROUP);
        let resident = if bound == 0 { 0 } else { resident_pages().unwrap_or(0) * self.page };
        self.judge(resident, bound);
    }

    fn judge(&self, resident: u64, bound: u64) {
        self.resident.store(resident, Ordering::Relaxed);
        let was = self.is_shedding.load(Ordering::Relaxed);
        let percent = if was { RELEASE } else { 100 };
        let sheds = bound != 0 && resident >= bound / 100 * percent;
        self.is_shedding.store(sheds, Ordering::Relaxed);
        self.is_hard.store(bound != 0 && resident >= bound / 100 * HARD, Ordering::Relaxed);
        if sheds != was {
            let (resident_mib, bound_mib) = (resident >> 20, bound >> 20);
            if sheds {
                tracing::warn!(resident_mib, bound_mib, "memory is short: requests are answered with 503");
            } else {
                tracing::info!(resident_mib, bound_mib, "memory suffices again");
            }
        }
    }

    /// What a connection gets whose descriptor has the number `descriptor`, where `spare` are to stay free.
    pub(super) fn room(&self, descriptor: u64, spare: u64) -> Room {
        if self.is_hard.load(Ordering::Relaxed) {
            self.shed_memory.fetch_add(1, Ordering::Relaxed);
            return Room::None;
        }
        let spare = spare.min(self.descriptors / 4);
        if descriptor.saturating_add(spare / 4) >= self.descriptors {
            self.shed_descriptors.fetch_add(1, Ordering::Relaxed);
            return Room::None;
        }
        if descriptor.saturating_add(spare) >= self.descriptors {
            self.shed_descriptors.fetch_add(1, Ordering::Relaxed);
            return Room::Little;
        }
        Room::Enough
    }

    /// Whether a request is to be turned away for want of memory; it is counted.
    pub(super) fn sheds(&self) -> bool {
        let sheds = self.is_shedding.load(Ordering::Relaxed);
        if sheds {
            self.shed_memory.fetch_add(1, Ordering::Relaxed);
        }
        sheds
    }

    pub(super) fn write(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let name = "gateway_http_shed_total";
        writeln!(out, "# HELP {name} Requests and connections turned away, by what was short.")?;
        writeln!(out, "# TYPE {name} counter")?;
        writeln!(out, "{name}{{short=\"memory\"}} {}", get(&self.shed_memory))?;
        writeln!(out, "{name}{{short=\"descriptors\"}} {}", get(&self.shed_descriptors))?;
        let name = "gateway_http_resident_bytes";
        writeln!(out, "# HELP {name} Resident memory as last looked at; 0 where there is no bound.")?;
        writeln!(out, "# TYPE {name} gauge\n{name} {}", get(&self.resident))
    }
}

/// Resident pages (proc_pid_statm(5), the second field).
fn resident_pages() -> Option<u64> {
    fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// The size of a page, from the auxiliary vector (getauxval(3), AT_PAGESZ = 6).
fn page_size() -> u64 {
    let words = fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    words.chunks_exact(16).find(|pair| word(&pair[..8]) == 6).map_or(4096, |pair| word(&pair[8..]))
}

/// The soft limit on descriptors (proc_pid_limits(5)).
fn nofile_limit() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The least memory that the control groups of this process allow, in bytes; 0 for no bound.
fn cgroup_limit() -> u64 {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut least = u64::MAX;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            let text = fs::read_to_string(format!("{root}{path}/{file}")).unwrap_or_default();
            if let Ok(limit) = text.trim().parse::<u64>() {
                least = least.min(limit);
            }
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    // The first version says «no bound» with a number near 2^63.
    if least >= 1 << 60 { 0 } else { least }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory() {
        let overload = Overload::new(0, 1000);
        for (resident, bound, sheds, room) in [
            (1 << 30, 0, false, Room::Enough),
            (999, 1000, false, Room::Enough),
            (1000, 1000, true, Room::Enough),
            (960, 1000, true, Room::Enough),
            (1080, 1000, true, Room::None),
            (949, 1000, false, Room::Enough),
            (960, 1000, false, Room::Enough),
        ] {
            overload.judge(resident, bound);
            assert_eq!((overload.sheds(), overload.room(10, 64)), (sheds, room), "{resident} of {bound}");
        }
    }

    #[test]
    fn descriptors() {
        let overload = Overload::new(0, 1000);
        for (number, spare, room) in [
            (10, 100, Room::Enough),
            (899, 100, Room::Enough),
            (900, 100, Room::Little),
            (974, 100, Room::Little),
            (975, 100, Room::None),
            // Never more than a quarter is kept free.
            (700, 100_000, Room::Enough),
            (750, 100_000, Room::Little),
        ] {
            assert_eq!(overload.room(number, spare), room, "{number} {spare}");
        }
    }

    #[test]
    fn the_system_tells() {
        assert!(nofile_limit().is_some_and(|n| n >= 64));
        assert!(resident_pages().is_some_and(|n| n > 0) && page_size().is_power_of_two());
    }
}
