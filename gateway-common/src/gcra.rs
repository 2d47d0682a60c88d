//! Limits for each source: the generic cell rate algorithm (ITU-T I.371) on cells of one word.
//!
//! A cell holds the theoretical arrival time (TAT) in its upper 44 bits and a tag of its source in the lower 20. The upper
//! bits are a circle that the arithmetic of words goes round by itself: limiter time counts 2^-40 of a jiffy, and a TAT is a
//! multiple of 2^[`TAG_BITS`] of those. Long-run rates are exact to that; the clock moves in ticks, so a burst may be larger
//! by what one tick lets in.

/// Bits of a cell's tag.
pub const TAG_BITS: u32 = 20;
/// Mask of a cell's tag.
pub const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
/// Bits of a jiffy's fraction in limiter time.
pub const TICK_BITS: u32 = 40;
/// The farthest that a TAT may be ahead, the tolerance of a limit: at 250 ticks a second four hours and a half.
pub const FARTHEST: u64 = 1 << 62;
/// Most units that one step may take.
pub const MOST_UNITS: u64 = 1 << 16;
/// So far behind a TAT is brought nearer by [`settled`], long before it has gone half the circle and seems to be ahead.
const STALE: u64 = 1 << 62;
/// So far behind it is then: as whole as before, and not to be brought nearer again soon.
const SETTLED: u64 = 1 << 61;
/// How far apart the clocks of two CPUs may seem: one reads the tick and is held up before it looks at the cell, while the
/// other charges it ticks later. A second at 250 ticks.
const SLACK: u64 = 250 << TICK_BITS;
/// Cells of a bucket.
pub const CELL_WAYS: usize = 8;
/// Classes of limits: 0 is the default, the others are for prefixes.
pub const CLASSES: u32 = 64;

/// Eight cells: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct CellBucket {
    /// Tag and TAT each.
    pub cells: [u64; CELL_WAYS],
}

/// Entries of the table of known sources, a byte each: the fingerprint of the source of that place that was last seen. Small, so
/// that a flood finds out in a near cache that nothing is known of a source (decision 55).
pub const KNOWN: u32 = 1 << 17;

/// The place of a source in the table of known ones, from its hash.
#[inline(always)]
pub const fn known_place(hash: u64) -> u32 {
    (hash >> 17) as u32 & (KNOWN - 1)
}

/// The fingerprint of a source, from its hash; never zero.
#[inline(always)]
pub const fn fingerprint(hash: u64) -> u8 {
    (hash >> 36) as u8 | 1
}

/// True when a new source becomes known with its cell: among the first eighth of a tick's `budget`, `left` of which is left after
/// it. Those of a flood are mostly later, and would push out whoever is known.
#[inline(always)]
pub const fn known_at_once(budget: u32, left: u64) -> bool {
    let before = (budget as u64).wrapping_sub(left).wrapping_sub(1);
    before.wrapping_mul(8) < budget as u64
}

/// True in the ticks in which a source within its limits becomes known: one in four, as writing it down costs half as much as a
/// limit.
#[inline(always)]
pub const fn notes(hash: u64, jiffies: u64) -> bool {
    (hash ^ jiffies) & 3 == 0
}

/// What one more unit costs, and how far ahead of now the TAT may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Limiter time for one packet, byte or connection: at most [`FARTHEST`] for all that one step may take; zero is no limit.
    pub cost: u64,
    /// Tolerance: the burst in limiter time, one tick included; at most [`FARTHEST`].
    pub tolerance: u64,
}

/// Limits of a class of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LimitClass {
    /// Packets, bytes, new connections: in the order of [`Kind`].
    pub limits: [Limit; 3],
    /// Violations, as a limit of its own: beyond it the source is barred.
    pub violations: Limit,
    /// How long it is barred, in limiter time; zero is never.
    pub penalty: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<LimitClass>() == 80);

/// What a cell counts; part of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Packets.
    Packets = 0,
    /// Bytes.
    Bytes = 1,
    /// New connections.
    Connections = 2,
    /// Packets over a limit.
    Violations = 3,
    /// Not a limit: the TAT is the end of the time barred.
    Penalty = 4,
}

/// Now in limiter time.
#[inline(always)]
pub const fn now(jiffies: u64) -> u64 {
    jiffies << TICK_BITS
}

/// The tag of a source and kind, from the source's hash: its upper 20 bits.
#[inline(always)]
pub const fn tag(hash: u64, kind: u64) -> u64 {
    (hash >> (64 - TAG_BITS)).wrapping_add(kind) & TAG_MASK
}

/// The way where the cell of a tag is looked for first.
#[inline(always)]
pub const fn home(tag: u64) -> u64 {
    tag & (CELL_WAYS as u64 - 1)
}

/// True when a cell carries a tag.
#[inline(always)]
pub const fn tagged(cell: u64, tag: u64) -> bool {
    cell & TAG_MASK == tag
}

/// How long ago a cell's TAT was; zero when it is ahead.
#[inline(always)]
pub const fn idle(cell: u64, now: u64) -> u64 {
    let behind = now.wrapping_sub(cell & !TAG_MASK);
    if behind >> 63 == 0 { behind } else { 0 }
}

/// What stands for a cell that was never written or that time has left far behind, or `None` while it is near: the same tag and a
/// limit that is whole. Whoever owns the cells looks at each more often than a quarter of the circle takes; otherwise the
/// circle would bring it round, and a limit or a bar of long ago would count again.
#[inline]
pub const fn settled(cell: u64, now: u64) -> Option<u64> {
    let behind = now.wrapping_sub(cell & !TAG_MASK);
    // Ahead is at most the farthest, and what two clocks differ by.
    if cell != 0 && behind.wrapping_sub(STALE) > (1 << 63) - 2 * SLACK {
        return None;
    }
    Some(whole(cell, now))
}

/// A cell of the same tag whose limit is whole.
#[inline]
pub const fn whole(cell: u64, now: u64) -> u64 {
    now.wrapping_sub(SETTLED) & !TAG_MASK | cell & TAG_MASK
}

/// How far ahead a TAT is, as far as `farthest`; anything else is long past, or never was.
#[inline(always)]
pub const fn ahead(cell: u64, now: u64, farthest: u64) -> u64 {
    let ahead = (cell & !TAG_MASK).wrapping_sub(now);
    if ahead > farthest { 0 } else { ahead }
}

/// The cost of some units in limiter time, rounded to what a TAT can hold.
#[inline(always)]
pub const fn cost(limit: &Limit, units: u64) -> u64 {
    limit.cost.wrapping_mul(units).wrapping_add(1 << (TAG_BITS - 1)) & !TAG_MASK
}

/// The cell after `units` more, or `None` when they go over the limit. `fresh`: now, with the tag of the cell; a cell that never
/// was is the same.
///
/// A TAT a little farther ahead than the tolerance was written by a CPU with a later tick, and counts; farther yet it is
/// of a limit that was replaced.
#[inline(always)]
pub const fn step(cell: u64, fresh: u64, limit: &Limit, units: u64) -> Option<u64> {
    let mut ahead = cell.wrapping_sub(fresh);
    if (ahead as i64) < 0 {
        ahead = 0;
    }
    let mut next = ahead.wrapping_add(cost(limit, units));
    if next > limit.tolerance {
        if ahead <= limit.tolerance.wrapping_add(SLACK) {
            return None;
        }
        next = cost(limit, units);
        if next > limit.tolerance {
            return None;
        }
    }
    Some(fresh.wrapping_add(next))
}

/// A limit of `rate` units a second with a burst of `burst`, at a tick of `tick_ns` nanoseconds. `most`: units that one step may
/// take, at most [`MOST_UNITS`]; a rate so low that they would take longer than [`FARTHEST`] is raised to that, which those that the
/// daemon accepts are above.
pub const fn limit(rate: u64, burst: u64, most: u64, tick_ns: u64) -> Limit {
    if rate == 0 || tick_ns == 0 {
        return Limit { cost: 0, tolerance: 0 };
    }
    let second = (1_000_000_000u128 << TICK_BITS) / tick_ns as u128;
    let cost = at_most(second / rate as u128, FARTHEST / most);
    let cost = if cost == 0 { 1 } else { cost };
    let tolerance = at_most(cost as u128 * burst as u128 + (1 << TICK_BITS), FARTHEST);
    Limit { cost, tolerance }
}

const fn at_most(value: u128, most: u64) -> u64 {
    if value > most as u128 { most } else { value as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 4_000_000;
    /// Any will do.
    const TAG: u64 = 0xabcde;

    /// Offers `per_tick` packets of `units` in each of `ticks` ticks and returns the units admitted.
    fn admitted(limit: &Limit, start: u64, ticks: u64, per_tick: u64, units: u64) -> u64 {
        let (mut cell, mut admitted) = (None, 0);
        for tick in 0..ticks {
            for _ in 0..per_tick {
                // As the program takes it: what is in no cell is fresh.
                let fresh = now(start + tick) | TAG;
                if let Some(next) = step(cell.unwrap_or(fresh), fresh, limit, units) {
                    cell = Some(next);
                    admitted += units;
                }
            }
        }
        admitted
    }

    #[test]
    fn a_minute_of_load_is_admitted_within_one_per_cent_of_the_exact_answer() {
        for (rate, burst, per_tick, units) in [
            (10u64, 5u64, 10u64, 1u64),
            (1_000, 100, 50, 1),
            (10_000, 10_000, 200, 1),
            (1_000_000, 1_000, 5_000, 1),
            (1_000_000, 100_000, 20, 1_500),
            (125_000_000, 1_000_000, 600, 1_500),
            (1_000_000_000, 10_000_000, 5_000, 1_500),
        ] {
            let limit = limit(rate, burst, MOST_UNITS, TICK);
            for start in [0, 4_294_892_296, u64::MAX >> TICK_BITS, (1 << (64 - TICK_BITS)) - 7_000] {
                let got = admitted(&limit, start, 15_000, per_tick, units) as f64;
                let exact = (rate * 60 + burst) as f64;
                let tick = rate as f64 / 250.0 + units as f64;
                assert!(
                    (got - exact).abs() <= exact * 0.01 + tick,
                    "rate {rate} burst {burst} start {start}: {got} instead of {exact}"
                );
            }
        }
    }

    #[test]
    fn what_is_under_the_limit_is_never_refused() {
        let limit = limit(1_000, 10, 1, TICK);
        assert_eq!(admitted(&limit, 77, 1_000, 4, 1), 4_000);
    }

    #[test]
    fn stale_and_foreign_cells_count_as_fresh() {
        let limit = limit(10, 5, 1, TICK);
        for cell in [0, now(5_000_000), now(100), !TAG_MASK] {
            assert!(step(cell | TAG, now(1_000_000) | TAG, &limit, 1).is_some(), "{cell:#x}");
        }
    }

    #[test]
    fn what_time_has_left_behind_never_comes_round_again() {
        let quarter = 1 << 22;
        for start in [0, 4_294_892_296, (1 << 24) - 75_000] {
            // A bar of the longest, a limit used up, and a cell that nobody wrote, of every tag.
            for written in [FARTHEST, now(250), 0] {
                for tag in [0, TAG] {
                    let mut cell =
                        if written == 0 { 0 } else { now(start).wrapping_add(written) & !TAG_MASK | tag };
                    if written == 0 {
                        cell = settled(cell, now(start)).expect("it was never written");
                    }
                    // Three days at 250 ticks, looked at every quarter of the circle and more often.
                    for every in [quarter, 15_000] {
                        let mut seen = cell;
                        for tick in (0..65_000_000u64).step_by(every) {
                            let now = now(start + tick);
                            seen = settled(seen, now).unwrap_or(seen);
                            let gone = tick << TICK_BITS >= written || tick >= quarter as u64;
                            assert!(!gone || ahead(seen, now, FARTHEST) == 0, "{start} {written} {tick}");
                            assert!(tagged(seen, cell & TAG_MASK));
                        }
                    }
                }
            }
        }
        // What is ahead, or was a moment ago, stays as it is.
        for cell in [now(1_000), now(900), now(1_001) + FARTHEST, now(1_000).wrapping_sub(STALE / 2)] {
            assert_eq!(settled(cell | TAG, now(1_000)), None, "{cell:#x}");
        }
    }

    #[test]
    fn a_cell_written_a_tick_later_gives_no_second_burst() {
        let limit = limit(1_000, 300, 1, TICK);
        for lag in [0, 1, 2, 100] {
            let later = now(50_000) | TAG;
            let mut cell = later;
            while let Some(next) = step(cell, later, &limit, 1) {
                cell = next;
            }
            assert_eq!(step(cell, now(50_000 - lag) | TAG, &limit, 1), None, "{lag} ticks behind");
        }
    }

    #[test]
    fn a_cell_keeps_its_tag() {
        let limit = limit(12_345, 678, MOST_UNITS, TICK);
        for tag in [0, 1, TAG, TAG_MASK] {
            let (mut cell, mut steps) = (now(9_000) | tag, 0);
            for tick in 9_000..9_100 {
                while let Some(next) = step(cell, now(tick) | tag, &limit, 7) {
                    (cell, steps) = (next, steps + 1);
                    assert!(tagged(cell, tag), "{tag:#x}: {cell:#x}");
                }
            }
            // 0.4 seconds at that rate, and the burst.
            assert!((790..820).contains(&steps), "{tag:#x}: {steps}");
        }
    }

    #[test]
    fn the_slowest_and_the_longest_limits_stay_on_their_half_of_the_circle() {
        for (rate, burst, most, tick) in [
            (1, u64::MAX, 1, TICK),
            (1, 1, MOST_UNITS, 1_000_000),
            (16, 65_536, MOST_UNITS, 1_000_000),
            (u64::MAX, 1, 1, TICK),
        ] {
            let limit = limit(rate, burst, most, tick);
            assert!(limit.cost > 0 && limit.tolerance <= FARTHEST, "{limit:?}");
            assert!(u128::from(limit.cost) * u128::from(most) <= u128::from(FARTHEST), "{limit:?}");
            let fresh = now(77) | TAG;
            if let Some(cell) = step(fresh, fresh, &limit, most) {
                assert!(ahead(cell, now(77), FARTHEST) <= limit.tolerance, "{limit:?}");
            }
        }
    }

    #[test]
    fn every_source_has_a_place_and_a_fingerprint_among_the_known_and_its_ticks() {
        for i in 0..1_000u64 {
            let hash = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!(known_place(hash) < KNOWN);
            assert_ne!(fingerprint(hash), 0);
            assert_eq!((0..16).filter(|jiffies| notes(hash, *jiffies)).count(), 4);
        }
        for (budget, known) in [(1, 1), (8, 1), (9, 2), (400, 50)] {
            let count = (0..u64::from(budget)).filter(|left| known_at_once(budget, *left)).count();
            assert_eq!(count, known, "{budget}");
            assert!(known_at_once(budget, u64::from(budget) - 1), "{budget}");
        }
    }

    #[test]
    fn idleness_is_measured_on_the_circle() {
        assert_eq!(idle(now(10) | TAG, now(12)), 2 << TICK_BITS);
        assert_eq!(idle(now(12) | TAG, now(10)), 0);
        assert_eq!(idle(now(u64::MAX) | TAG, now(1)), 2 << TICK_BITS);
    }
}
