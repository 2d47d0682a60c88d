//! The hash of an address, which is the usual key.
//!
//! Addresses are short and of a fixed length: a sum of products with secret multipliers (multilinear hashing) is as good
//! as random for any two of them, provably, and takes a tenth of a general hash's time. Its last step is not
//! linear, so that what collides tells nothing of what else does. `docs/decisions/0061-the-hash-of-an-address.md` has the argument.

use std::net::IpAddr;

use super::table::Key;

/// Secret multipliers, drawn for one specification of keys.
pub(super) struct AddressHash {
    v4: [[u128; 2]; 2],
    v6: [[u128; 3]; 2],
    last: [[u64; 2]; 2],
}

impl AddressHash {
    /// `random` gives 128 bits that cannot be guessed, others for each number.
    pub(super) fn new(random: impl Fn(u8) -> u128) -> Self {
        let last = |n: u8| {
            let bits = random(n);
            [bits as u64, (bits >> 64) as u64 | 1]
        };
        Self {
            v4: [[random(0), random(1)], [random(2), random(3)]],
            v6: [[random(4), random(5), random(6)], [random(7), random(8), random(9)]],
            last: [last(10), last(11)],
        }
    }

    /// The hash of the network that an address lies in.
    #[inline]
    pub(super) fn network(&self, addr: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> Key {
        let (first, second) = match addr {
            IpAddr::V4(addr) => {
                let network = addr.to_bits() & u32::MAX.unbounded_shl(32 - u32::from(ipv4_prefix));
                let sum = |[start, by]: [u128; 2]| start.wrapping_add(by.wrapping_mul(network.into()));
                (sum(self.v4[0]), sum(self.v4[1]))
            }
            IpAddr::V6(addr) => {
                let network = addr.to_bits() & u128::MAX.unbounded_shl(128 - u32::from(ipv6_prefix));
                let (high, low) = (network >> 64, network & u128::from(u64::MAX));
                let sum = |[start, by_high, by_low]: [u128; 3]| {
                    start.wrapping_add(by_high.wrapping_mul(high)).wrapping_add(by_low.wrapping_mul(low))
                };
                (sum(self.v6[0]), sum(self.v6[1]))
            }
        };
        Key::of(fold(first, self.last[0]), fold(second, self.last[1]))
    }
}

/// The upper half of a sum, multiplied and folded.
#[inline]
fn fold(sum: u128, [xor, by]: [u64; 2]) -> u64 {
    let product = u128::from((sum >> 64) as u64 ^ xor) * u128::from(by);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::key::Secret;
    use super::*;

    fn hash(secret: u64) -> AddressHash {
        let secret = Secret::new([secret, 7]);
        AddressHash::new(|n| secret.hash(&n.to_string()))
    }

    /// Addresses that differ in few bits, as a flood's do, fall on places and tags like random ones.
    #[test]
    fn neighbours_fall_far_apart() {
        let v6 = |n: u128| IpAddr::V6((0x2001_0db8 << 96 | n).into());
        let v4 = |n: u128| IpAddr::V4((0x0a00_0000 | n as u32).into());
        type Address<'a> = &'a dyn Fn(u128) -> IpAddr;
        let floods: [(&str, Address<'_>); 5] = [
            ("v4", &v4),
            ("v4 by 256", &|n| v4(n << 8)),
            ("v6 networks", &|n| v6(n << 64)),
            ("v6 hosts", &v6),
            ("v6, both", &|n| v6(n << 64 | n)),
        ];
        for secret in 0..8 {
            let hash = hash(secret);
            for (name, address) in floods {
                const KEYS: usize = 1 << 16;
                let (mut locks, mut buckets, mut whole) = ([0_u32; 64], vec![0_u8; 1 << 13], HashSet::new());
                for n in 0..KEYS as u128 {
                    let [place, tag] = hash.network(address(n), 32, 128).parts();
                    locks[place as usize % 64] += 1;
                    buckets[(place >> 51) as usize] += 1;
                    whole.insert((place >> 40, tag >> 40, tag as u16));
                }
                // 1,024 each, give or take six times the square root; of 8 each, more than 40 never.
                assert!(locks.iter().all(|n| (830..1_220).contains(n)), "{name} {secret}: {locks:?}");
                assert!(buckets.iter().all(|n| *n < 40), "{name} {secret}: {:?}", buckets.iter().max());
                assert_eq!(whole.len(), KEYS, "{name} {secret}: keys that count together");
            }
        }
    }

    #[test]
    fn kinds_networks_and_secrets_are_told_apart() {
        let hash_of = |secret: u64, text: &str, v4: u8, v6: u8| {
            hash(secret).network(text.parse().expect("address"), v4, v6)
        };
        let same = |a: Key, b: Key, expected: bool| assert_eq!(a == b, expected);
        same(hash_of(1, "192.0.2.1", 24, 64), hash_of(1, "192.0.2.9", 24, 64), true);
        same(hash_of(1, "192.0.2.1", 32, 64), hash_of(1, "192.0.2.9", 32, 64), false);
        same(hash_of(1, "192.0.2.1", 0, 0), hash_of(1, "203.0.113.1", 0, 0), true);
        same(hash_of(1, "2001:db8::1", 32, 64), hash_of(1, "2001:db8::2", 32, 64), true);
        same(hash_of(1, "2001:db8::1", 32, 128), hash_of(1, "2001:db8::2", 32, 128), false);
        same(hash_of(1, "2001:db8::1", 32, 64), hash_of(2, "2001:db8::1", 32, 64), false);
        same(hash_of(1, "0.0.0.5", 32, 128), hash_of(1, "::5", 32, 128), false);
    }
}
