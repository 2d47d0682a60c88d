//! Addresses and prefixes as the tables hold them.

/// High half of every IPv4-mapped address (RFC 4291 section 2.5.5.2): zero.
pub const MAPPED_HIGH: u64 = 0;
/// Low half of an IPv4-mapped address without the IPv4 part.
pub const MAPPED_LOW: u64 = 0x0000_ffff_0000_0000;

/// An address of either family in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Wide {
    /// First 64 bits.
    pub high: u64,
    /// Last 64 bits.
    pub low: u64,
}

impl Wide {
    /// The IPv4-mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn mapped(v4: u32) -> Self {
        Self { high: MAPPED_HIGH, low: MAPPED_LOW | v4 as u64 }
    }

    /// The IPv4 address inside, when this is an IPv4-mapped address.
    pub const fn as_v4(self) -> Option<u32> {
        if self.high == MAPPED_HIGH && self.low >> 32 == MAPPED_LOW >> 32 {
            Some(self.low as u32)
        } else {
            None
        }
    }

    /// The address with all bits after the first `length` (0 to 128; more counts as 128) cleared.
    #[must_use]
    #[inline(always)]
    pub const fn masked(self, length: u32) -> Self {
        Self { high: self.high & mask64(length), low: self.low & mask64(length.saturating_sub(64)) }
    }
}

/// The first `bytes` bytes of an address, from 1 to 16; the rest cleared.
#[inline(always)]
pub const fn leading(address: Wide, bytes: u32) -> Wide {
    if bytes > 8 {
        let shift = (16u32.wrapping_sub(bytes) * 8) & 63;
        return Wide { high: address.high, low: address.low >> shift << shift };
    }
    let shift = (8u32.wrapping_sub(bytes) * 8) & 63;
    Wide { high: address.high >> shift << shift, low: 0 }
}

/// A mask of the first `length` bits of 64 (more counts as 64).
#[inline(always)]
pub const fn mask64(length: u32) -> u64 {
    // Shifting by 64 is undefined for the machine; two shifts of at most 63 are not.
    if length >= 64 { u64::MAX } else { !(u64::MAX >> (length & 63)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_at_every_length() {
        let ones = Wide { high: u64::MAX, low: u64::MAX };
        for length in 0..=130u32 {
            let expected = if length == 0 { 0 } else { u128::MAX << (128 - length.min(128)) };
            let masked = ones.masked(length);
            assert_eq!(((masked.high as u128) << 64) | masked.low as u128, expected, "/{length}");
        }
    }

    #[test]
    fn leading_bytes_are_masks_of_eight_bits_each() {
        let address = Wide { high: 0x0123_4567_89ab_cdef, low: 0xfedc_ba98_7654_3210 };
        for bytes in 1..=16 {
            assert_eq!(leading(address, bytes), address.masked(bytes * 8), "{bytes}");
        }
    }

    #[test]
    fn mapped_goes_round() {
        assert_eq!(Wide::mapped(0x0a00_0001).as_v4(), Some(0x0a00_0001));
        assert_eq!(Wide { high: 1, low: MAPPED_LOW }.as_v4(), None);
        assert_eq!(Wide { high: 0, low: 1 }.as_v4(), None);
    }
}
