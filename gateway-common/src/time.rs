//! The clock that kernel and daemon share: jiffies.
//!
//! Reading jiffies costs an XDP program nothing, any finer clock costs as much as the rest of the path. Ban expiry
//! counts coarser units of it (`jiffies >> shift`, the shift chosen by the daemon so that a unit is 64 to 160 ms);
//! limiter arithmetic counts finer ones ([`crate::gcra`]), so that long-run rates are exact and only
//! bursts know the grain of the tick.

/// Bits of the moment a ban ends, in expiry units. They go round (jiffies start close to 2^32, and hosts stay up for
/// years), so moments are compared on the half circle.
pub const EXPIRY_BITS: u32 = 28;

/// An expiry that never comes.
pub const NEVER: u32 = (1 << EXPIRY_BITS) - 1;

/// The longest a ban can run, in expiry units: 99 days at the shortest unit. Entries expired for as long must have been
/// swept.
pub const FARTHEST: u32 = (1 << (EXPIRY_BITS - 1)) - 1;

/// Now in expiry units.
#[inline(always)]
pub const fn expiry_now(jiffies: u64, shift: u32) -> u32 {
    (jiffies >> (shift & 31)) as u32 & ((1 << EXPIRY_BITS) - 1)
}

/// The shift that makes an expiry unit 64 to 160 ms at a tick of `tick_ns` nanoseconds.
pub const fn expiry_shift(tick_ns: u64) -> u32 {
    let mut shift = 0;
    while (tick_ns << (shift + 1)) <= 160_000_000 {
        shift += 1;
    }
    shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_stay_in_their_window() {
        for hz in [100u64, 250, 300, 1000] {
            let tick = 1_000_000_000 / hz;
            let unit_ms = (tick << expiry_shift(tick)) / 1_000_000;
            assert!((64..=160).contains(&unit_ms), "{hz} Hz: {unit_ms} ms");
        }
    }

    #[test]
    fn now_is_masked() {
        assert_eq!(expiry_now(u64::MAX, 5), NEVER);
        assert_eq!(expiry_now(64, 5), 2);
    }
}
