//! Floods from ever new sources: a count-min sketch for the sources that got no cell of the limiter.
//!
//! Each CPU has a sketch of its own, so nothing in it is atomic. A window is some 65 to 130 ms; a counter carries the
//! number of its window, so nobody has to clear it. An estimate is never too low, and too high by about the mean load of a
//! column: whoever judges adds that to the bound, so that a flood of many does not make one of them heavy.

/// Rows, each with an index of its own.
pub const ROWS: usize = 4;
/// Counters of a row; a power of two.
pub const COLUMNS: usize = 2048;
/// Most packets that a counter knows of; beyond it stays.
pub const MOST: u32 = 0xffff;

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
    /// The lower 16 bits of the window above, the packets in it below.
    pub counters: [u32; ROWS * COLUMNS],
}

const _: () = assert!(size_of::<Sketch>() == 64 + ROWS * COLUMNS * 4);

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
    let column = (mixed >> (row * 16)) as usize & (COLUMNS - 1);
    row * COLUMNS + column
}

/// A counter after one more packet in a window. Without branches: in a flood none of them could be foreseen.
#[inline(always)]
pub const fn count(counter: u32, window: u64) -> u32 {
    let mark = (window as u32) << 16;
    // All ones when the counter is of this window, else zero.
    let same = ((((counter ^ mark) >> 16).wrapping_sub(1) as i32) >> 31) as u32;
    let more = (counter & MOST & same) + 1;
    // At the top the carry is taken off again.
    mark | (more - (more >> 16))
}

/// The lesser of two counts of at most [`MOST`], without branches.
#[inline(always)]
pub const fn lesser(a: u32, b: u32) -> u32 {
    let borrow = ((a.wrapping_sub(b) as i32) >> 31) as u32;
    b.wrapping_add(a.wrapping_sub(b) & borrow)
}

/// True when an estimate is over the bound for one source in a window that has seen `total` packets.
#[inline(always)]
pub const fn is_heavy(estimate: u32, bound: u32, total: u64) -> bool {
    estimate as u64 > bound as u64 + total / (COLUMNS as u64 / 2)
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

        fn add(&mut self, source: u64, window: u64) -> u32 {
            let mixed = mix(source, 0x1234_5678_9abc_def0);
            self.total += 1;
            (0..ROWS)
                .map(|row| {
                    let counter = &mut self.counters[index(mixed, row)];
                    *counter = count(*counter, window);
                    *counter & MOST
                })
                .min()
                .unwrap_or(0)
        }
    }

    #[test]
    fn one_heavy_source_is_told_from_a_flood_of_others() {
        let mut model = Model::new();
        let (bound, mut refused, mut wrong) = (200, 0u32, 0u32);
        // Four thousand packets of one source among 400,000 of as many others.
        for i in 0..400_000u64 {
            let estimate = model.add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), 7);
            wrong += u32::from(is_heavy(estimate, bound, model.total));
            if i % 100 == 0 {
                let estimate = model.add(42, 7);
                refused += u32::from(is_heavy(estimate, bound, model.total));
            }
        }
        assert!(refused >= 3_500, "{refused} of 4,000");
        assert!(wrong <= 40, "{wrong} of 400,000 light sources");
    }

    #[test]
    fn a_new_window_starts_over_and_counters_stay_at_their_top() {
        let mut model = Model::new();
        for _ in 0..70_000 {
            model.add(1, 1);
        }
        assert_eq!(model.add(1, 1), MOST);
        assert_eq!(model.add(1, 2), 1);
        assert_eq!(count(0, 0), 1);
        for (counter, window, next) in
            [(0x0003_0007, 3, 0x0003_0008), (0x0003_0007, 4, 0x0004_0001), (0x0003_ffff, 3, 0x0003_ffff)]
        {
            assert_eq!(count(counter, window), next, "{counter:#x} in {window}");
        }
        for (a, b) in [(0, MOST), (1, 2), (5, 5), (MOST, MOST - 1)] {
            assert_eq!((lesser(a, b), lesser(b, a)), (a.min(b), a.min(b)), "{a} and {b}");
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
