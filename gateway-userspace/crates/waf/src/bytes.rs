//! Which bytes a value has: a 64-bit presence key.
//!
//! The key answers in one instruction what most screens ask ("does this value have a `%`, an upper-case letter, a
//! byte above 127?"). It is exact for punctuation and for letters without regard to case, and by class for the rest.

use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// The set of bytes that occur in a value, as 64 presence bits.
///
/// - bits 0-31: the 32 ASCII punctuation bytes, one bit each, in byte order;
/// - bits 32-57: the letters `a` to `z`, both cases on one bit;
/// - bit 58: any upper-case letter; bit 59: any digit; bit 60: the space;
/// - bit 61: whitespace other than the space (0x09-0x0D); bit 62: any other control byte, NUL and DEL among them;
/// - bit 63: any byte from 0x80 up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ByteMask(pub u64);

impl ByteMask {
    /// No byte at all: the mask of the empty value.
    pub const EMPTY: Self = Self(0);
    /// Every byte may be there.
    pub const ALL: Self = Self(u64::MAX);
    /// Any upper-case ASCII letter.
    pub const UPPER: Self = Self(1 << 58);
    /// Any ASCII digit.
    pub const DIGIT: Self = Self(1 << 59);
    /// The space, 0x20.
    pub const SPACE: Self = Self(1 << 60);
    /// Tab, line feed, vertical tab, form feed, carriage return.
    pub const OTHER_WHITESPACE: Self = Self(1 << 61);
    /// 0x00-0x08, 0x0E-0x1F and 0x7F.
    pub const CONTROL: Self = Self(1 << 62);
    /// 0x80-0xFF.
    pub const HIGH: Self = Self(1 << 63);
    /// All six ASCII whitespace bytes.
    pub const WHITESPACE: Self = Self(Self::SPACE.0 | Self::OTHER_WHITESPACE.0);
    /// Every ASCII letter, in lower case.
    pub const LETTERS: Self = Self(((1 << 26) - 1) << 32);

    /// The mask of a value. Linear, about one table look-up for each byte.
    pub fn of(value: &[u8]) -> Self {
        let mut lanes = [0_u64; 8];
        let (blocks, rest) = value.as_chunks::<8>();
        for block in blocks {
            for (lane, &byte) in lanes.iter_mut().zip(block) {
                *lane |= TABLE[usize::from(byte)];
            }
        }
        let mut mask = lanes.iter().fold(0, |all, lane| all | lane);
        for &byte in rest {
            mask |= TABLE[usize::from(byte)];
        }
        Self(mask)
    }

    /// The bits of a single byte: its own and, for an upper-case letter, [`Self::UPPER`].
    pub const fn of_byte(byte: u8) -> Self {
        Self(TABLE[byte as usize])
    }

    /// The mask of a list of bytes, at compile time.
    pub const fn of_bytes(bytes: &[u8]) -> Self {
        let mut mask = 0;
        let mut index = 0;
        while index < bytes.len() {
            mask |= TABLE[bytes[index] as usize];
            index += 1;
        }
        Self(mask)
    }

    /// Whether the two have a bit in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every bit of `other` is in `self`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The union of two masks, usable in constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for ByteMask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ByteMask {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for ByteMask {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for ByteMask {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// The bits of each byte.
static TABLE: [u64; 256] = bits_by_byte();

const fn bits_by_byte() -> [u64; 256] {
    let mut table = [0; 256];
    let mut punctuation = 0;
    let mut byte = 0_usize;
    while byte < 256 {
        let it = byte as u8;
        table[byte] = match it {
            b'a'..=b'z' => 1 << (32 + (it - b'a') as u32),
            b'A'..=b'Z' => (1 << (32 + (it - b'A') as u32)) | ByteMask::UPPER.0,
            b'0'..=b'9' => ByteMask::DIGIT.0,
            b' ' => ByteMask::SPACE.0,
            0x09..=0x0D => ByteMask::OTHER_WHITESPACE.0,
            0x80..=0xFF => ByteMask::HIGH.0,
            _ if it.is_ascii_punctuation() => {
                punctuation += 1;
                1 << (punctuation - 1)
            }
            _ => ByteMask::CONTROL.0,
        };
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_the_bits_of_its_class() {
        let mut seen = 0_u64;
        for byte in 0..=255_u8 {
            let mask = ByteMask::of_byte(byte);
            assert_eq!(mask.contains(ByteMask::UPPER), byte.is_ascii_uppercase(), "{byte}");
            assert_eq!(mask == ByteMask::DIGIT, byte.is_ascii_digit(), "{byte}");
            assert_eq!(mask == ByteMask::HIGH, byte >= 0x80, "{byte}");
            assert_eq!(mask.intersects(ByteMask::WHITESPACE), matches!(byte, 9..=13 | 32), "{byte}");
            assert_eq!(mask.intersects(ByteMask::LETTERS), byte.is_ascii_alphabetic(), "{byte}");
            if byte.is_ascii_punctuation() {
                assert_eq!(mask.0.count_ones(), 1);
                assert_eq!(seen & mask.0, 0, "punctuation {byte} shares a bit");
                assert!(mask.0 < 1 << 32);
            }
            seen |= mask.0;
        }
        assert_eq!(seen, u64::MAX);
    }

    #[test]
    fn the_mask_of_a_value_is_the_union_of_its_bytes() {
        for length in 0..70_usize {
            let value: Vec<u8> = (0..length).map(|i| (i * 37 + length * 11) as u8).collect();
            let expected = value.iter().fold(ByteMask::EMPTY, |all, &b| all | ByteMask::of_byte(b));
            assert_eq!(ByteMask::of(&value), expected);
            assert_eq!(ByteMask::of_bytes(&value), expected);
        }
    }
}
