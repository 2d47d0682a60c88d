//! What the limiter holds of one source, read from its cells.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use gateway_common::{
    gcra::{self, CLASSES, FARTHEST, Kind, Limit, TICK_BITS},
    hash::{hash_v4, hash_wide},
    policy::ALLOW,
};
use serde::Serialize;

use super::{
    Kernel,
    load::{Loaded, PolicyKey},
    target::Target,
};

/// What the limiter holds of a source (an IPv4 address or an IPv6 /64). Reading disturbs nobody; packets that come meanwhile are
/// seen or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceCells {
    /// True when the allowlist has it: it is never limited.
    pub allowed: bool,
    /// The class of limits that it is in: 0 is the default, others are of overrides.
    pub class: u32,
    /// What its cells say. A limit without a cell is whole: the source has sent nothing lately, or came in a flood and got none.
    pub cells: Vec<CellView>,
    /// For how long it is barred, in milliseconds; zero when it is not.
    pub barred_ms: u64,
}

/// A cell against its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CellView {
    /// What is counted: `packets`, `bytes`, `connections`, or `violations` (packets over a limit).
    pub of: &'static str,
    /// Units that may come at once now.
    pub left: u64,
    /// Units that may come at once after a pause.
    pub burst: u64,
    /// Milliseconds until the limit is whole again.
    pub whole_in_ms: u64,
}

impl Kernel {
    /// What the limiter holds of the source that an address is.
    pub fn source(&self, address: IpAddr) -> SourceCells {
        self.state().loaded.source(address)
    }
}

impl Loaded {
    fn source(&self, address: IpAddr) -> SourceCells {
        let target = Target::from(address);
        let wide = target.wide();
        let bits = u128::from(wide.high) << 64 | u128::from(wide.low);
        let policy = self.policy.get(&PolicyKey::new(128, bits.to_be_bytes()), 0).ok().map(|pod| pod.0);
        let class = policy.map_or(0, |policy| policy.class) & (CLASSES - 1);
        let hash = if target.is_v4() {
            hash_v4(&self.key(), wide.low as u32)
        } else {
            hash_wide(&self.key(), wide.high, 0, 8)
        };
        let bucket = &self.cells[hash as usize & (self.cells.len() - 1)];
        let cell = |kind: Kind| {
            let tag = gcra::tag(hash, kind as u64);
            bucket.iter().map(|cell| cell.load(Relaxed)).find(|cell| gcra::tagged(*cell, tag))
        };
        let (now, tick_ns) = (gcra::now(self.clock.jiffies()), self.clock.tick_ns());
        let limits = &self.limits[class as usize];
        let kinds = [
            ("packets", Kind::Packets, &limits.limits[0]),
            ("bytes", Kind::Bytes, &limits.limits[1]),
            ("connections", Kind::Connections, &limits.limits[2]),
            ("violations", Kind::Violations, &limits.violations),
        ];
        let view = |(of, kind, words): (_, _, &[_; 2])| {
            let [cost, tolerance] = words.each_ref().map(|word: &AtomicU64| word.load(Relaxed));
            let limit = Limit { cost, tolerance };
            (cost != 0).then(|| cell(kind)).flatten().map(|cell| view(of, cell, now, &limit, tick_ns))
        };
        SourceCells {
            allowed: policy.is_some_and(|policy| policy.flags & ALLOW != 0),
            class,
            cells: kinds.into_iter().filter_map(view).collect(),
            barred_ms: cell(Kind::Penalty).map_or(0, |cell| ms(gcra::ahead(cell, now, FARTHEST), tick_ns)),
        }
    }
}

/// Limiter time in milliseconds, rounded up.
fn ms(time: u64, tick_ns: u64) -> u64 {
    (u128::from(time) * u128::from(tick_ns)).div_ceil(1_000_000 << TICK_BITS) as u64
}

fn view(of: &'static str, cell: u64, now: u64, limit: &Limit, tick_ns: u64) -> CellView {
    let ahead = gcra::ahead(cell, now, limit.tolerance);
    let units = |time: u64| time / limit.cost.max(1);
    let burst = limit.tolerance.saturating_sub(1 << TICK_BITS);
    CellView {
        of,
        left: units(burst.saturating_sub(ahead)),
        burst: units(burst),
        whole_in_ms: ms(ahead, tick_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 4_000_000;

    #[test]
    fn a_cell_says_what_is_left_of_its_limit() {
        let limit = gcra::limit(10, 5, 5, TICK);
        let now = gcra::now(1_000);
        for (spent, left, whole_in_ms) in [(0u64, 5, 0), (1, 3, 100), (3, 1, 300), (5, 0, 500)] {
            let cell = gcra::step(now, now, &limit, spent).expect("within the burst");
            let seen = view("packets", cell, now, &limit, TICK);
            assert!(seen.left.abs_diff(left) <= 1 && seen.left <= 5 - spent, "{spent}: {seen:?}");
            assert!(seen.whole_in_ms.abs_diff(whole_in_ms) <= 1, "{spent}: {seen:?}");
            assert!(seen.burst.abs_diff(5) <= 1, "{spent}: {seen:?}");
        }
        // Long past, and of a limit that was larger: whole.
        for cell in [gcra::now(10), now + limit.tolerance * 16] {
            assert_eq!(view("packets", cell, now, &limit, TICK).whole_in_ms, 0);
        }
    }
}
