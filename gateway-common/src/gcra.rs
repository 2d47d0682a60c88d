//! Limits for each source: the generic cell rate algorithm (ITU-T I.371) on cells of one word.
//!
//! A cell holds a tag of its source and the theoretical arrival time (TAT) in limiter time
//! ([`FINE_BITS`] bits below a jiffy), on a circle of 44 bits. Costs are fractions of limiter time, so long-run
//! rates are exact; the clock moves in ticks, so a burst may be larger by what one tick lets in.

use crate::time::FINE_BITS;

/// Bits of the TAT.
pub const TAT_BITS: u32 = 44;
/// Mask of the TAT.
pub const TAT_MASK: u64 = (1 << TAT_BITS) - 1;
/// Bits of a cost below one unit of limiter time.
pub const COST_BITS: u32 = 16;
/// How far apart the clocks of two CPUs may seem: one reads the tick and is held up before it looks at the cell, while the
/// other charges it ticks later. A second at 250 ticks.
const SLACK: u64 = 250 << FINE_BITS;
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

/// A byte for each cell of a bucket: the fingerprint of the source whose cell it is, zero for none. A table of these is an
/// eighth as large as that of the cells, so that a flood finds out from a nearer cache that nothing is known of a source.
pub type Fingerprints = u64;

/// The fingerprint of a source, from its hash; never zero.
#[inline(always)]
pub const fn fingerprint(hash: u64) -> u8 {
    let byte = (hash >> 32) as u8;
    byte + (byte == 0) as u8
}

/// True when one of the bytes is this fingerprint: the source may have a cell in the bucket. False is certain.
#[inline(always)]
pub const fn may_know(bytes: Fingerprints, fingerprint: u8) -> bool {
    const ONES: u64 = u64::MAX / 255;
    let differs = bytes ^ (fingerprint as u64 * ONES);
    differs.wrapping_sub(ONES) & !differs & (ONES << 7) != 0
}

/// What one more unit costs, and how far ahead of now the TAT may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Limiter time for one packet, byte or connection, times 2^16; zero is no limit.
    pub cost: u64,
    /// Tolerance: the burst in limiter time, one tick included.
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
    (jiffies << FINE_BITS) & TAT_MASK
}

/// The tag of a source and kind, from the source's hash: its upper 20 bits.
#[inline(always)]
pub const fn tag(hash: u64, kind: u64) -> u64 {
    (hash >> TAT_BITS).wrapping_add(kind) << TAT_BITS
}

/// The way where the cell of a tag is looked for first.
#[inline(always)]
pub const fn home(tag: u64) -> u64 {
    tag >> TAT_BITS & (CELL_WAYS as u64 - 1)
}

/// True when a cell carries a tag.
#[inline(always)]
pub const fn tagged(cell: u64, tag: u64) -> bool {
    cell & !TAT_MASK == tag
}

/// How long ago a cell's TAT was; zero when it is ahead.
#[inline(always)]
pub const fn idle(cell: u64, now: u64) -> u64 {
    let behind = now.wrapping_sub(cell) & TAT_MASK;
    if behind >> (TAT_BITS - 1) == 0 { behind } else { 0 }
}

/// How far ahead a TAT is, as far as `farthest`; anything else is long past, or never was.
#[inline(always)]
pub const fn ahead(cell: u64, now: u64, farthest: u64) -> u64 {
    let ahead = cell.wrapping_sub(now) & TAT_MASK;
    if ahead > farthest { 0 } else { ahead }
}

/// The cost of some units in limiter time, rounded to the nearest.
#[inline(always)]
pub const fn cost(limit: &Limit, units: u64) -> u64 {
    (limit.cost.wrapping_mul(units) + (1 << (COST_BITS - 1))) >> COST_BITS
}

/// The new TAT after `units` more, or `u64::MAX` when that goes over the limit.
///
/// A TAT a little farther ahead than the tolerance was written by a CPU with a later tick, and counts; farther yet it is
/// of a limit that was replaced.
#[inline(always)]
pub const fn step(cell: u64, now: u64, limit: &Limit, units: u64) -> u64 {
    let next = ahead(cell, now, limit.tolerance + SLACK) + cost(limit, units);
    if next > limit.tolerance { u64::MAX } else { now.wrapping_add(next) & TAT_MASK }
}

/// A limit of `rate` units a second with a burst of `burst`, at a tick of `tick_ns` nanoseconds.
pub const fn limit(rate: u64, burst: u64, tick_ns: u64) -> Limit {
    if rate == 0 || tick_ns == 0 {
        return Limit { cost: 0, tolerance: 0 };
    }
    let second = (1_000_000_000u128 << (FINE_BITS + COST_BITS)) / tick_ns as u128;
    let cost = second / rate as u128;
    let cost = if cost == 0 { 1 } else { cost };
    let burst = (cost * burst as u128) >> COST_BITS;
    let most = (1u128 << (TAT_BITS - 1)) - 1;
    let tolerance = burst + (1 << FINE_BITS);
    Limit { cost: cost as u64, tolerance: if tolerance > most { most as u64 } else { tolerance as u64 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 4_000_000;

    /// Offers `per_tick` packets of `units` in each of `ticks` ticks and returns the units admitted.
    fn admitted(limit: &Limit, start: u64, ticks: u64, per_tick: u64, units: u64) -> u64 {
        let (mut cell, mut admitted) = (0, 0);
        for tick in 0..ticks {
            for _ in 0..per_tick {
                match step(cell, now(start + tick), limit, units) {
                    u64::MAX => {}
                    next => {
                        cell = next;
                        admitted += units;
                    }
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
            let limit = limit(rate, burst, TICK);
            for start in [0, 4_294_892_296, u64::MAX >> FINE_BITS, (1 << (TAT_BITS - FINE_BITS)) - 7_000] {
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
        let limit = limit(1_000, 10, TICK);
        assert_eq!(admitted(&limit, 77, 1_000, 4, 1), 4_000);
    }

    #[test]
    fn stale_and_foreign_cells_count_as_fresh() {
        let limit = limit(10, 5, TICK);
        for cell in [0, now(5_000_000), now(100), TAT_MASK] {
            assert_ne!(step(cell, now(1_000_000), &limit, 1), u64::MAX);
        }
    }

    #[test]
    fn a_cell_written_a_tick_later_gives_no_second_burst() {
        let limit = limit(1_000, 300, TICK);
        for lag in [0, 1, 2, 100] {
            let (mut cell, later) = (0, now(50_000));
            while step(cell, later, &limit, 1) != u64::MAX {
                cell = step(cell, later, &limit, 1);
            }
            assert_eq!(step(cell, now(50_000 - lag), &limit, 1), u64::MAX, "{lag} ticks behind");
        }
    }

    #[test]
    fn fingerprints_are_found_in_any_place_and_nothing_is_in_an_empty_bucket() {
        for hash in [0u64, 1 << 32, 0x80 << 32, 0xff << 32, u64::MAX, 0x0123_4567_89ab_cdef] {
            let print = fingerprint(hash);
            assert_ne!(print, 0, "{hash:#x}");
            assert!(!may_know(0, print), "{hash:#x} in an empty bucket");
            for way in 0..CELL_WAYS {
                let others = u64::from(print ^ 0x55) * (u64::MAX / 255);
                let bytes = others & !(0xff << (way * 8)) | u64::from(print) << (way * 8);
                assert!(may_know(bytes, print), "{hash:#x} in way {way}");
                assert!(!may_know(others, print), "{hash:#x}");
            }
        }
    }

    #[test]
    fn idleness_is_measured_on_the_circle() {
        assert_eq!(idle(now(10), now(12)), 2 << FINE_BITS);
        assert_eq!(idle(now(12), now(10)), 0);
        assert_eq!(idle(TAT_MASK, 1), 2);
    }
}
