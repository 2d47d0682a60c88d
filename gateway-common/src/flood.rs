//! Floods from ever new sources: a count-min sketch for the sources that got no cell of the limiter.
//!
//! Each CPU has a sketch of its own, so nothing in it is atomic. All counters of one source lie in one line of the cache,
//! a counter in each of the line's four rows: a flood pays for one line a packet. A window is some 65 to 130 ms; the first
//! packet of a new one empties the sketch. An estimate is never too low, and too high by about the mean load of a counter:
//! whoever judges adds that to the bound, so that a flood of many does not make one of them heavy. Beyond that a light source
//! is taken for a heavy one when it shares all four counters with one, which one source in 131,072 does with any given other.

/// Counters of one source, each in a row of its own.
pub const ROWS: usize = 4;
/// Counters of a row of one line; a power of two.
pub const SLOTS: usize = 4;
/// Lines; a power of two.
pub const LINES: usize = 512;
/// Counters that a packet of some source may count in, for each row.
pub const COLUMNS: usize = LINES * SLOTS;

/// The sketch of one CPU.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Sketch {
    /// The window that counts.
    pub window: u64,
    /// Packets in it.
    pub total: u64,
    /// Zero.
    pub reserved: [u64; 6],
    /// Packets in it, line by line and row by row.
    pub counters: [u32; ROWS * COLUMNS],
}

const _: () = assert!(size_of::<Sketch>() == 64 + ROWS * COLUMNS * 4);
const _: () = assert!(ROWS * SLOTS * 4 == 64);

/// A hash for the sketch out of the source's hash: keyed by another seed than the tables, as an estimate can be watched
/// from outside where the place in a table cannot.
#[inline(always)]
pub const fn mix(hash: u64, seed: u64) -> u64 {
    let mut x = (hash ^ seed).wrapping_mul(0x9fb2_1c65_1e98_df25);
    x ^= x >> 32;
    x = x.wrapping_add(seed).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^ (x >> 31)
}

/// Index of the counter in a row (0 to 3) for a mixed hash.
#[inline(always)]
pub const fn index(mixed: u64, row: usize) -> usize {
    let line = (mixed >> 32) as usize & (LINES - 1);
    let slot = (mixed >> (row * 8)) as usize & (SLOTS - 1);
    (line * ROWS + row) * SLOTS + slot
}

/// The most packets that one source may have sent in a window that has seen `total`, when `bound` is what it may send in a
/// window without a flood.
#[inline(always)]
pub const fn most(bound: u32, total: u64) -> i64 {
    bound as i64 + (total / (COLUMNS as u64 / 2)) as i64
}

/// Negative when a count is beyond `most`. A source is heavy when all its counts are: the bitwise and of all of them is
/// negative. No comparison of two counts, as in a flood none could be foreseen, and BPF has no other way to take the lesser.
#[inline(always)]
pub const fn beyond(count: u32, most: i64) -> i64 {
    most - count as i64
}

/// The shift that makes windows of 65 to 130 ms at a tick of `tick_ns` nanoseconds.
pub const fn window_shift(tick_ns: u64) -> u32 {
    let mut shift = 0;
    while tick_ns > 0 && (tick_ns << (shift + 1)) <= 130_000_000 {
        shift += 1;
    }
    shift
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Model {
        counters: std::vec::Vec<u32>,
        total: u64,
    }

    impl Model {
        fn new() -> Self {
            Self { counters: std::vec![0; ROWS * COLUMNS], total: 0 }
        }

        /// True when the source is heavy with this packet.
        fn add(&mut self, source: u64, bound: u32) -> bool {
            let mixed = mix(source, 0x1234_5678_9abc_def0);
            self.total += 1;
            let most = most(bound, self.total);
            let all = (0..ROWS).fold(-1, |all, row| {
                let counter = &mut self.counters[index(mixed, row)];
                *counter += 1;
                all & beyond(*counter, most)
            });
            all < 0
        }
    }

    #[test]
    fn one_heavy_source_is_told_from_a_flood_of_others() {
        let mut model = Model::new();
        let (bound, mut refused, mut wrong) = (200, 0u32, 0u32);
        // Four thousand packets of one source among 400,000 of as many others.
        for i in 0..400_000u64 {
            wrong += u32::from(model.add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), bound));
            if i % 100 == 0 {
                refused += u32::from(model.add(42, bound));
            }
        }
        assert!(refused >= 3_500, "{refused} of 4,000");
        assert!(wrong <= 40, "{wrong} of 400,000 light sources");
    }

    #[test]
    fn a_source_has_its_counters_in_one_line_and_each_in_another_row() {
        let mut used = std::vec![0u32; ROWS * COLUMNS];
        for source in 0..400_000u64 {
            let mixed = mix(source, 77);
            let places: std::vec::Vec<usize> = (0..ROWS).map(|row| index(mixed, row)).collect();
            for (row, place) in places.iter().enumerate() {
                assert_eq!(place / (ROWS * SLOTS), places[0] / (ROWS * SLOTS), "one line");
                assert_eq!(place / SLOTS % ROWS, row);
                used[*place] += 1;
            }
        }
        // 195 each on average.
        assert!(used.iter().all(|count| (100..300).contains(count)), "evenly");
    }

    #[test]
    fn heavy_is_who_is_beyond_the_bound_in_every_count() {
        for (counts, bound, total, heavy) in [
            ([6, 6, 6, 6], 5, 0, true),
            ([6, 5, 6, 6], 5, 0, false),
            ([5, 5, 5, 5], 5, 0, false),
            ([6, 6, 6, 6], 5, 1024, false),
            ([7, 8, 900, 7], 5, 1024, true),
            ([u32::MAX; 4], u32::MAX, 0, false),
            ([u32::MAX; 4], 0, u64::from(u32::MAX), true),
            ([0; 4], 0, 0, false),
        ] {
            let most = most(bound, total);
            let all = counts.iter().fold(-1, |all, count| all & beyond(*count, most));
            assert_eq!(all < 0, heavy, "{counts:?} of {total} at {bound}");
        }
    }

    #[test]
    fn windows_have_their_length() {
        for hz in [100u64, 250, 300, 1000] {
            let tick = 1_000_000_000 / hz;
            let ms = (tick << window_shift(tick)) / 1_000_000;
            assert!((64..=130).contains(&ms), "{hz} Hz: {ms} ms");
        }
    }
}
