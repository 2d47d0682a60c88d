//! Keyed hashes for the tables.
//!
//! Nothing outside the host learns a hash value or the key, and tables are keyed afresh when they are made, so an
//! outsider cannot aim at a bucket. The rounds are multiply, add key, shift-xor (as in MurmurHash3's finaliser,
//! which mixes every input bit into every output bit); BPF has no wide multiply, so no cheaper strong hash exists there.

const M1: u64 = 0xff51_afd7_ed55_8ccd;
const M2: u64 = 0xc4ce_b9fe_1a85_ec53;
const M3: u64 = 0x9e37_79b9_7f4a_7c15;

/// Secret key of the tables' hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct HashKey {
    /// Two random words.
    pub words: [u64; 2],
}

/// Hash of an IPv4 address.
#[inline(always)]
pub const fn hash_v4(key: &HashKey, address: u32) -> u64 {
    let mut x = (address as u64 ^ key.words[0]).wrapping_mul(M1);
    x ^= x >> 32;
    x = x.wrapping_add(key.words[1]).wrapping_mul(M2);
    x ^ (x >> 29)
}

/// Hash of a 128-bit address and a small number beside it (a prefix length or a kind).
#[inline(always)]
pub const fn hash_wide(key: &HashKey, high: u64, low: u64, extra: u32) -> u64 {
    let mut x = (high ^ key.words[0]).wrapping_mul(M1);
    x ^= x >> 32;
    x = x.wrapping_add(low ^ key.words[1]).wrapping_mul(M2);
    x ^= x >> 29;
    x = x.wrapping_add(extra as u64).wrapping_mul(M3);
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey { words: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210] };

    /// Sequential inputs must fill 4,096 buckets evenly: chi-squared far from its mean would mean a weak mix.
    fn check_spread(name: &str, hash: impl Fn(u64) -> u64, part: impl Fn(u64) -> u64) {
        let mut buckets = std::vec![0u32; 4096];
        let n = 262_144u64;
        for i in 0..n {
            buckets[(part(hash(i)) & 4095) as usize] += 1;
        }
        let mean = n as f64 / 4096.0;
        let chi: f64 = buckets.iter().map(|b| (*b as f64 - mean).powi(2) / mean).sum();
        assert!((3600.0..4600.0).contains(&chi), "{name}: chi-squared {chi}");
    }

    #[test]
    fn hashes_spread_sequential_addresses() {
        for shift in [0, 20, 32, 40, 52] {
            check_spread("v4", |i| hash_v4(&KEY, i as u32), |h| h >> shift);
            check_spread("v6 low", |i| hash_wide(&KEY, 0x2001_0db8, i, 128), |h| h >> shift);
            check_spread("v6 high", |i| hash_wide(&KEY, i, 1, 128), |h| h >> shift);
        }
    }

    #[test]
    fn the_key_matters() {
        let other = HashKey { words: [1, 2] };
        assert_ne!(hash_v4(&KEY, 1), hash_v4(&other, 1));
        assert_ne!(hash_wide(&KEY, 1, 1, 1), hash_wide(&other, 1, 1, 1));
        assert_ne!(hash_wide(&KEY, 1, 1, 1), hash_wide(&KEY, 1, 1, 2));
    }
}
