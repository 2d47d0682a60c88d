//! Which server: pure arithmetic over weights and loads.

use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;

use crate::config::edge::Balance;

/// What is known of a server when choosing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place in the upstream.
    pub(super) index: usize,
    /// 1 to 1,000.
    pub(super) weight: u32,
    /// Requests in flight.
    pub(super) load: u64,
    /// The hash of its address.
    pub(super) seed: u64,
}

/// Chooses among the candidates; `None` when there are none. `random` is fresh for each call, `turn` counts up,
/// `key` is asked where the request decides.
pub(super) fn choose(
    balance: Balance,
    candidates: &[Candidate],
    random: u64,
    turn: u64,
    key: impl FnOnce() -> u64,
) -> Option<usize> {
    if let [only] = candidates {
        return Some(only.index);
    }
    match balance {
        Balance::TwoChoices => {
            let one = weighted(candidates, random & 0xffff_ffff)?;
            let two = weighted(candidates, random >> 32)?;
            // load/weight compared without dividing.
            let less = two.load * u64::from(one.weight) < one.load * u64::from(two.weight);
            Some(if less { two.index } else { one.index })
        }
        Balance::RoundRobin => {
            let total: u64 = candidates.iter().map(|c| u64::from(c.weight)).sum();
            nth(candidates, turn % total.max(1)).map(|c| c.index)
        }
        Balance::ClientHash | Balance::HeaderHash => {
            let key = key();
            candidates.iter().max_by(|a, b| score(a, key).total_cmp(&score(b, key))).map(|c| c.index)
        }
    }
}

/// A candidate at random by weight; `random` is 32 bits.
fn weighted(candidates: &[Candidate], random: u64) -> Option<&Candidate> {
    let total: u64 = candidates.iter().map(|c| u64::from(c.weight)).sum();
    nth(candidates, (random * total) >> 32)
}

/// The candidate that holds the `n`th share.
fn nth(candidates: &[Candidate], mut n: u64) -> Option<&Candidate> {
    for candidate in candidates {
        match n.checked_sub(u64::from(candidate.weight)) {
            None => return Some(candidate),
            Some(rest) => n = rest,
        }
    }
    candidates.first()
}

/// A hash that is the same on every node and after every restart. Who can choose the bytes can choose the server,
/// and no more.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Weighted rendezvous hashing: -weight / ln(u) with u from a hash of server and key. Like a ring with points without
/// number: shares follow the weights exactly, and a server that goes away moves only its own keys.
fn score(candidate: &Candidate, key: u64) -> f64 {
    // The finish of splitmix64: both are hashes already.
    let mut z = candidate.seed ^ key.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let u = ((z >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight) / u.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[(u32, u64)]) -> Vec<Candidate> {
        weights
            .iter()
            .enumerate()
            .map(|(index, &(weight, load))| Candidate { index, weight, load, seed: hash(&[index as u8]) })
            .collect()
    }

    fn counts(balance: Balance, of: &[Candidate]) -> Vec<u32> {
        let mut counts = vec![0; of.len()];
        // A fixed sequence that looks random (splitmix64).
        let mut state = 1u64;
        for turn in 0..10_000u64 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let key = hash(&turn.to_be_bytes());
            counts[choose(balance, of, z ^ (z >> 31), turn, || key).expect("one")] += 1;
        }
        counts
    }

    #[test]
    fn shares_follow_weights() {
        for (balance, slack) in
            [(Balance::RoundRobin, 0), (Balance::ClientHash, 300), (Balance::HeaderHash, 300)]
        {
            let got = counts(balance, &candidates(&[(1, 0), (3, 0), (1, 0)]));
            for (got, want) in got.iter().zip([2000u32, 6000, 2000]) {
                assert!(got.abs_diff(want) <= slack, "{balance:?} {got} for {want}");
            }
        }
    }

    #[test]
    fn two_choices_avoid_the_busy_one() {
        let got = counts(Balance::TwoChoices, &candidates(&[(1, 100), (1, 0), (1, 0)]));
        // Only when it is drawn twice: a ninth.
        assert!((900..1350).contains(&got[0]), "{got:?}");
        let got = counts(Balance::TwoChoices, &candidates(&[(10, 10), (1, 0)]));
        assert!(got[0] > got[1], "{got:?}");
    }

    #[test]
    fn a_lost_server_moves_only_its_clients() {
        let three = candidates(&[(1, 0), (1, 0), (1, 0)]);
        for n in 0..1000u32 {
            let client = hash(&n.to_be_bytes());
            let before = choose(Balance::ClientHash, &three, 0, 0, || client);
            let after = choose(Balance::ClientHash, &three[..2], 0, 0, || client);
            if before != Some(2) {
                assert_eq!(before, after, "{client}");
            }
        }
        assert_eq!(choose(Balance::TwoChoices, &[], 0, 0, || 0), None);
    }
}
