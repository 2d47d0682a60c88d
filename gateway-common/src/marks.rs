//! Bitmaps in front of the tables: most packets end here, on one cached word.
//!
//! IPv4: two bits for each /24 of the address space (4 MiB): [`HOSTS`] when a single host inside is in the table,
//! [`PREFIX`] when a prefix touches it. IPv6: one bit for the hash of a piece. A set bit is a hint to look closer, a
//! clear bit is certain. Bits are set before the entry is written and cleared only by rebuilding the whole bitmap.

/// A host of this /24 is in the table.
pub const HOSTS: u64 = 1;
/// A prefix covers or lies in this /24.
pub const PREFIX: u64 = 2;
/// Two-bit fields in a word.
pub const FIELDS: u32 = 32;
/// Words of the IPv4 marks: 2^24 fields.
pub const V4_WORDS: u32 = (1 << 24) / FIELDS;
/// Words of the IPv4 filter: one bit for each /24 that a ban, the feed that counts or a policy prefix touches, or that no
/// source may lie in. Most packets end their checks of the source here.
pub const NEAR_WORDS: u32 = (1 << 24) / 64;
/// Words of the coarse filter: one bit for each /16 that a banned prefix, the feed or a policy prefix touches. It is asked of those
/// whose /24 may only have a banned host in it.
pub const COARSE_WORDS: u32 = (1 << 16) / 64;
/// Bits of the hashed marks of IPv4 hosts: a second question, asked of a host whose /24 holds a banned one. A million bans leave
/// 19 of 20 of those who are not banned themselves without a mark.
pub const HOST_BITS: u32 = 1 << 24;
/// Words of the hashed marks of IPv4 hosts.
pub const HOST_WORDS: u32 = HOST_BITS / 64;
/// Bits of the hashed IPv6 marks.
pub const V6_BITS: u32 = 1 << 24;
/// Words of the hashed IPv6 marks.
pub const V6_WORDS: u32 = V6_BITS / 64;

/// Word of the /24 of an address.
#[inline(always)]
pub const fn v4_word(address: u32) -> u32 {
    address >> 13
}

/// Shift of the field of the /24 of an address inside its word.
#[inline(always)]
pub const fn v4_shift(address: u32) -> u32 {
    ((address >> 8) & (FIELDS - 1)) * 2
}

/// Word of the /24 of an address in the IPv4 filter.
#[inline(always)]
pub const fn near_word(address: u32) -> u32 {
    address >> 14
}

/// Word of the /16 of an address in the coarse filter.
#[inline(always)]
pub const fn coarse_word(address: u32) -> u32 {
    address >> 22
}

/// Bit of the /16 of an address inside its word of the coarse filter.
#[inline(always)]
pub const fn coarse_bit(address: u32) -> u32 {
    (address >> 16) & 63
}

/// Bit of the /24 of an address inside its word of the IPv4 filter.
#[inline(always)]
pub const fn near_bit(address: u32) -> u32 {
    (address >> 8) & 63
}

/// One bit for each two-bit field of a word of marks that is not empty.
pub const fn fields_in_use(word: u64) -> u64 {
    let mut x = (word | word >> 1) & 0x5555_5555_5555_5555;
    x = (x | x >> 1) & 0x3333_3333_3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) & 0xffff_ffff
}

/// Words of the policy guard: 65,536 bits for IPv4 /16s, then as many for hashed IPv6 /32s.
pub const GUARD_WORDS: u32 = 2048;

/// Bit of an IPv4 address in the policy guard.
#[inline(always)]
pub const fn guard_v4(address: u32) -> u32 {
    address >> 16
}

/// Bit of an IPv6 address in the policy guard, by its first 32 bits.
#[inline(always)]
pub const fn guard_v6(high: u64) -> u32 {
    let top = (high >> 32) as u32;
    65_536 + (top.wrapping_mul(0x9e37_79b1) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_the_address_space_have_a_field() {
        assert_eq!((v4_word(0), v4_shift(0)), (0, 0));
        assert_eq!((v4_word(u32::MAX), v4_shift(u32::MAX)), (V4_WORDS - 1, 62));
        assert_eq!((v4_word(0x0000_2000), v4_shift(0x0000_2000)), (1, 0));
        assert_eq!((near_word(u32::MAX), near_bit(u32::MAX)), (NEAR_WORDS - 1, 63));
        assert_eq!((near_word(0x0000_4100), near_bit(0x0000_4100)), (1, 1));
        assert_eq!((coarse_word(u32::MAX), coarse_bit(u32::MAX)), (COARSE_WORDS - 1, 63));
        assert_eq!((coarse_word(0x0041_0000), coarse_bit(0x0041_0000)), (1, 1));
        assert!(guard_v4(u32::MAX) / 64 < GUARD_WORDS / 2);
        assert!(guard_v6(u64::MAX) / 64 < GUARD_WORDS);
        assert!(guard_v6(0) / 64 >= GUARD_WORDS / 2);
    }

    #[test]
    fn fields_become_bits() {
        for (word, bits) in [
            (0, 0),
            (u64::MAX, 0xffff_ffff),
            (HOSTS, 1),
            (PREFIX, 1),
            (PREFIX << 62, 1 << 31),
            (HOSTS << 2 | PREFIX << 8 | HOSTS << 34, 1 << 1 | 1 << 4 | 1 << 17),
        ] {
            assert_eq!(fields_in_use(word), bits, "{word:#x}");
        }
    }
}
