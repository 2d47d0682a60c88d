use super::*;

/// A small generator (xorshift64*), so that each case is a number that can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }
}

/// Every unit admitted and not given back, with its time: the truth that a state is held against.
#[derive(Default)]
struct ExactLog(Vec<(Nanos, u32)>);

impl ExactLog {
    /// Units in the window that ends at `now` (a unit exactly a window old has left it).
    fn used(&self, window: Nanos, now: Nanos) -> u64 {
        self.0.iter().rev().filter(|(at, _)| at + window > now).map(|(_, n)| u64::from(*n)).sum()
    }
}

fn arrival(random: &mut Random, style: u64, rule: &Rule, now: Nanos) -> Nanos {
    let mean = rule.window() / u64::from(rule.quota());
    now + match style {
        0 => mean / 2,               // even, at twice the rate
        1 => random.below(mean * 2), // random, at the rate
        2 if random.below(rule.quota().into()) == 0 => random.below(rule.window() * 3 / 2), // bursts
        2 => 0,
        _ => random.below(mean / 4 + 1), // flood
    }
}

/// Runs one random history against the exact log.
fn history(seed: u64, algorithm: Algorithm) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let [most, window] = [[8, 40, 300, 5_000], [1_000_000_000, 7_777_777_777, 60_000_000_000, 3]]
        .map(|of| of[random.below(4) as usize]);
    let quota = 1 + random.below(most) as u32;
    let window = Duration::from_nanos(window.max(1_000_000_000));
    let burst = 1 + random.below(u64::from(quota)) as u32;
    let rule = Rule::new(algorithm, quota, window, burst);
    let mut state = State::default();
    let mut exact = ExactLog::default();
    let mut now = 1_700_000_000_000_000_000 + random.below(1 << 40);
    for step in 0..1_500 {
        now = arrival(&mut random, seed % 4, &rule, now);
        let cost = 1 + random.below(3).min(u64::from(rule.capacity()) - 1) as u32;
        let peeked = state.peek(&rule, now, cost);
        let verdict = state.take(&rule, now, cost);
        assert_eq!(peeked, verdict, "seed {seed} step {step}: peek tells what take does");
        if verdict.ok {
            exact.0.push((now, cost));
        } else {
            assert!(verdict.reset > 0, "seed {seed} step {step}");
            let later = state.peek(&rule, now + verdict.reset, cost);
            assert!(later.ok, "seed {seed} step {step}: {verdict:?} promised units, then {later:?}");
        }
        assert!(
            state.peek(&rule, now, verdict.remaining).ok,
            "seed {seed} step {step}: {verdict:?} and none there"
        );
        match algorithm {
            Algorithm::SlidingWindow => {
                let used = exact.used(rule.window(), now);
                assert!(used <= quota.into(), "seed {seed} step {step}: {used} of {quota}");
            }
            Algorithm::Gcra => {
                // Stretches that end now and begin at any admission.
                let mut sum = 0;
                for (at, units) in exact.0.iter().rev() {
                    sum += u128::from(*units);
                    let allowed = u128::from(burst)
                        + u128::from(now - at) * u128::from(quota) / u128::from(rule.window());
                    assert!(sum <= allowed, "seed {seed} step {step}: {sum} of {allowed}");
                }
            }
        }
        // Now and then some of it comes back, at once or late.
        if random.below(6) == 0 && !exact.0.is_empty() {
            let back = exact.0.len() - 1 - random.below(exact.0.len().min(20) as u64) as usize;
            let (at, units) = exact.0.remove(back);
            state.give_back(&rule, at, now, units);
        }
    }
}

#[test]
fn no_history_admits_more_than_the_contract() {
    for seed in 0..240 {
        history(seed, Algorithm::SlidingWindow);
    }
    for seed in 0..40 {
        history(seed, Algorithm::Gcra);
    }
}

#[test]
fn a_steady_load_gets_its_quota() {
    let check = |algorithm: Algorithm, quota: u32, load_percent: u64, at_least_percent: u64| {
        let rule = Rule::new(algorithm, quota, Duration::from_mins(1), quota);
        let step = rule.window() * 100 / (u64::from(quota) * load_percent);
        let mut state = State::default();
        let start = 1_700_000_000_000_000_000;
        let windows = 20;
        let admitted = (0..windows * rule.window() / step)
            .map(|i| start + i * step)
            .filter(|now| state.take(&rule, *now, 1).ok)
            .count() as u64;
        let got = admitted * 100 / (u64::from(quota) * windows);
        assert!(got >= at_least_percent, "{algorithm:?} {quota} at {load_percent}%: {got}%");
    };
    for load in [105, 120, 200, 1000] {
        check(Algorithm::SlidingWindow, 30, load, 96);
        check(Algorithm::SlidingWindow, 1_000, load, 96);
        check(Algorithm::SlidingWindow, 20_000, load, 96);
        check(Algorithm::Gcra, 1_000, load, 99);
    }
    check(Algorithm::SlidingWindow, 1_000, 90, 89);
}

/// A quota right before the edge of a window and one after it: what two weighted counters are known to let through.
#[test]
fn a_burst_around_the_edge_of_a_window() {
    let (second, quota) = (1_000_000_000, 100);
    let rule = Rule::new(Algorithm::SlidingWindow, quota, Duration::from_mins(1), quota);
    // A minute of the clock begins at 1,700,000,040 s.
    for early in [1, 5, 20, 45] {
        let mut state = State::default();
        let edge = 1_700_000_040 * second;
        let before = (0..200).filter(|_| state.take(&rule, edge - early * second, 1).ok).count();
        let times = (0..(60 - early) * 10).map(|tenth| edge + tenth * second / 10);
        let after = times.filter(|now| state.take(&rule, *now, 1).ok).count();
        assert_eq!((before, after), (100, 0), "{early} s before");
    }
}

#[test]
fn what_is_given_back_can_be_had_again() {
    let check = |algorithm: Algorithm, quota: u32| {
        let rule = Rule::new(algorithm, quota, Duration::from_mins(15), quota);
        let (mut state, now) = (State::default(), 1_700_000_000_000_000_000);
        for i in 0..u64::from(quota) * 3 {
            let at = now + i * 1_000_000;
            assert!(state.take(&rule, at, 1).ok, "{algorithm:?} {quota}: {i}");
            state.give_back(&rule, at, at + 500_000, 1);
        }
        let end = now + u64::from(quota) * 3_000_000;
        assert_eq!(state.peek(&rule, end, 0).remaining, quota, "{algorithm:?} {quota}");
    };
    for algorithm in [Algorithm::SlidingWindow, Algorithm::Gcra] {
        check(algorithm, 5);
        check(algorithm, 3_000);
    }
}

#[test]
fn shares_charges_and_clocks() {
    let second = 1_000_000_000;
    let now = 1_700_000_000 * second;
    for algorithm in [Algorithm::SlidingWindow, Algorithm::Gcra] {
        let rule = Rule::new(algorithm, 100, Duration::from_mins(1), 100);
        let mut state = State::default();
        let shared = (0..100).filter(|_| state.take_share(&rule, 4, now, 1).ok).count();
        assert_eq!(shared, 25, "{algorithm:?}: a quarter of 100");
        assert_eq!(state.peek(&rule, now, 0).remaining, 75, "{algorithm:?}: the share counts as used");
        state.charge(&rule, now, 1_000);
        assert!(!state.take(&rule, now, 1).ok, "{algorithm:?}: charged over the quota");
        assert!(
            !state.take(&rule, now - 30 * second, 1).ok,
            "{algorithm:?}: a clock that ran back gives nothing"
        );
        assert!(state.expires(&rule) > now, "{algorithm:?}");
        assert_eq!(
            state.peek(&rule, state.expires(&rule) + 1, 0).remaining,
            100,
            "{algorithm:?}: all forgotten"
        );
        assert!(!State::default().take(&rule, now, 101).ok, "{algorithm:?}: more than there ever is");
    }
    assert_eq!(Rule::new(Algorithm::SlidingWindow, 5, Duration::from_mins(1), 5).share(10), 1);
}

#[test]
fn a_state_is_small() {
    assert_eq!(size_of::<State>(), 80);
}
