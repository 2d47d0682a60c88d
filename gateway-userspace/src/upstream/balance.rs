//! Which server: pure arithmetic over weights and loads.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

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
}

/// Chooses among the candidates; `None` when there are none. `random` is fresh for each call, `turn` counts up.
pub(super) fn choose(
    balance: Balance,
    candidates: &[Candidate],
    random: u64,
    turn: u64,
    client: IpAddr,
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
        Balance::ClientHash => {
            candidates.iter().max_by(|a, b| score(a, client).total_cmp(&score(b, client))).map(|c| c.index)
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

/// Weighted rendezvous hashing: -weight / ln(u) with u from a hash of server and client. A server that goes
/// away moves only its own clients.
fn score(candidate: &Candidate, client: IpAddr) -> f64 {
    let mut hasher = DefaultHasher::new();
    (candidate.index, client).hash(&mut hasher);
    let u = ((hasher.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight) / u.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[(u32, u64)]) -> Vec<Candidate> {
        weights.iter().enumerate().map(|(index, &(weight, load))| Candidate { index, weight, load }).collect()
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
            let client = IpAddr::from((turn as u32).to_be_bytes());
            counts[choose(balance, of, z ^ (z >> 31), turn, client).expect("one")] += 1;
        }
        counts
    }

    #[test]
    fn shares_follow_weights() {
        for (balance, slack) in [(Balance::RoundRobin, 0), (Balance::ClientHash, 300)] {
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
            let client = IpAddr::from(n.to_be_bytes());
            let before = choose(Balance::ClientHash, &three, 0, 0, client);
            let after = choose(Balance::ClientHash, &three[..2], 0, 0, client);
            if before != Some(2) {
                assert_eq!(before, after, "{client}");
            }
        }
        assert_eq!(choose(Balance::TwoChoices, &[], 0, 0, IpAddr::from([0; 4])), None);
    }
}
