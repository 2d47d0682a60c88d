//! What a ban must not touch: the allowlist, trusted proxies, management sources, the host's own addresses.

use std::collections::{BTreeMap, BTreeSet};

use gateway_common::marks::{GUARD_WORDS, guard_v4, guard_v6};

use super::{error::BanError, target::Target};

/// Shortest IPv4 prefix that a ban may have.
const SHORTEST_V4: u32 = 8;
/// Shortest IPv6 prefix that a ban may have.
const SHORTEST_V6: u32 = 16;

/// Guarded prefixes, each with why.
pub struct Guard {
    prefixes: BTreeMap<Target, &'static str>,
    lengths: BTreeSet<u32>,
    bits: Vec<u64>,
}

impl Guard {
    /// A guard over these prefixes.
    pub fn new(prefixes: impl IntoIterator<Item = (Target, &'static str)>) -> Self {
        let prefixes: BTreeMap<_, _> = prefixes.into_iter().collect();
        let lengths = prefixes.keys().map(Target::wide_length).collect();
        let bits = guard_bits(prefixes.keys());
        Self { prefixes, lengths, bits }
    }

    /// Lets a ban pass, or says what it would touch.
    pub fn check(&self, target: &Target) -> Result<(), BanError> {
        let (length, shortest) = if target.is_v4() {
            (target.wide_length() - 96, SHORTEST_V4)
        } else {
            (target.wide_length(), SHORTEST_V6)
        };
        if let Some((guard, kind)) = self.touched(target) {
            return Err(BanError::Guarded { target: *target, guard, kind });
        }
        if length < shortest {
            return Err(BanError::TooWide { target: *target, shortest });
        }
        Ok(())
    }

    fn touched(&self, target: &Target) -> Option<(Target, &'static str)> {
        if target.wide_length() == 128 && !self.near(target) {
            return None;
        }
        for length in self.lengths.iter().take_while(|length| **length <= target.wide_length()) {
            let around = Target::of(target.wide(), *length as u8);
            if let Some(kind) = self.prefixes.get(&around) {
                return Some((around, kind));
            }
        }
        // Prefixes inside the target sort directly after it, by address.
        let inside = self.prefixes.range(target..).next();
        inside.filter(|(guard, _)| target.covers(guard)).map(|(guard, kind)| (*guard, *kind))
    }

    /// One look instead of a search for each of a million hosts.
    fn near(&self, host: &Target) -> bool {
        let wide = host.wide();
        let bit = match wide.as_v4() {
            Some(v4) => guard_v4(v4),
            None => guard_v6(wide.high),
        } as usize;
        self.bits[bit / 64] >> (bit % 64) & 1 == 1
    }
}

/// The guard bitmap over prefixes: a clear bit means that none of them matches.
pub fn guard_bits<'a>(prefixes: impl IntoIterator<Item = &'a Target>) -> Vec<u64> {
    let mut bits = vec![0u64; GUARD_WORDS as usize];
    let half = GUARD_WORDS as usize / 2;
    for prefix in prefixes {
        let (wide, length) = (prefix.wide(), prefix.wide_length());
        if prefix.is_v4() {
            let first = guard_v4(wide.low as u32);
            let count = 1u32 << 16u32.saturating_sub(length - 96);
            for bit in first..first + count {
                bits[bit as usize / 64] |= 1 << (bit % 64);
            }
        } else if length >= 32 {
            let bit = guard_v6(wide.high) as usize;
            bits[bit / 64] |= 1 << (bit % 64);
        } else {
            bits[half..].fill(u64::MAX);
            // Shorter than /32 it may be ::/0, under which the mapped IPv4 addresses lie too.
            if length < 96 && wide.high == 0 && wide.low == 0 {
                bits[..half].fill(u64::MAX);
            }
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn bans_that_touch_a_guarded_prefix_are_refused() {
        let guard = Guard::new(
            ["10.9.0.0/16", "192.0.2.7", "2001:db8:1::/48", "2001:db8:2::5", "100.64.0.0/10"]
                .map(|text| (target(text), "an allowlisted source")),
        );
        for (text, refused) in [
            ("10.9.1.1", true),
            ("10.9.0.0/24", true),
            ("10.0.0.0/8", true),
            ("10.8.0.0/16", false),
            ("10.8.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("192.0.2.0/24", true),
            ("192.0.3.0/24", false),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("2001:db8:1:2::3", true),
            ("2001:db8:2::/64", true),
            ("2001:db8:2::6", false),
            ("2001:db8:3::/48", false),
            ("198.0.0.0/7", true),
            ("2001::/15", true),
        ] {
            assert_eq!(guard.check(&target(text)).is_err(), refused, "{text}");
        }
    }

    #[test]
    fn refusals_are_sentences() {
        let guard = Guard::new([(target("192.0.2.7"), "this host's own address")]);
        let error = guard.check(&target("192.0.2.0/24")).unwrap_err().to_string();
        assert_eq!(
            error,
            "192.0.2.0/24 is not banned: it touches 192.0.2.7, which is this host's own address"
        );
        let empty = Guard::new([]);
        let error = empty.check(&target("0.0.0.0/0")).unwrap_err().to_string();
        assert_eq!(error, "0.0.0.0/0 is not banned: a ban covers at most a /8");
    }
}
