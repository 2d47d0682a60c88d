//! Nanoseconds a decision and bytes a key, beside governor.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::Path;

use gateway::client::ClientId;
use gateway::config::Config;
use gateway::limits::{Check, LimitRequest, Limiter};
use governor::{Quota, RateLimiter};
use http::HeaderMap;

use super::rows::{Rows, median, on_cpu, resident};

/// Decisions in one turn.
const TURN: u32 = 200_000;
/// Turns of each.
const TURNS: usize = 15;
const START: u64 = 1_700_000_000_000_000_000;

pub fn limiter(text: &str) -> Limiter {
    let config = Config::parse(Path::new("/g.toml"), text).unwrap_or_else(|e| panic!("{e}"));
    Limiter::new(&config.limits, [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321])
}

pub fn request(addr: IpAddr, headers: &HeaderMap, now: u64) -> LimitRequest<'_> {
    LimitRequest::of(ClientId::direct(addr), headers, now)
}

fn one(name: &str, algorithm: &str, quota: u32) -> String {
    format!("[[limits]]\nname = \"{name}\"\nquota = {quota}\nwindow = \"1m\"\nalgorithm = \"{algorithm}\"\n")
}

/// What one decision took, in nanoseconds: medians over the turns.
struct Measured {
    ours: f64,
    governor: f64,
    /// Of ours: going through the addresses and filling in the request, which is the bench's own.
    request: f64,
}

/// More than all turns ask for of one key.
const PLENTY: u32 = 10_000_000;

/// Nanoseconds a decision, by turns with governor on the same keys; each key has `quota` units a minute, for both.
fn measure(text: &str, keys: u32, quota: u32) -> Measured {
    // The default, or as much as the keys need.
    let memory = if keys > 500_000 { "256MiB" } else { "128MiB" };
    let limiter = limiter(&format!("[limit_store]\nmemory = \"{memory}\"\n{text}"));
    let minute = Quota::per_minute(NonZeroU32::new(quota).expect("not zero"));
    let governor = RateLimiter::dashmap(minute);
    let headers = HeaderMap::new();
    let (mut ours, mut theirs, mut own) = (Vec::new(), Vec::new(), Vec::new());
    let mut now = START;
    // The first turns make the keys.
    let warm = (keys / TURN + 1) as usize;
    for turn in 0..TURNS + warm {
        let first = turn as u32 * TURN;
        // Made before the clock is read: how an address is found is not what is measured.
        let address = |i: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i.wrapping_mul(2_654_435_761) % keys));
        let addresses: Vec<IpAddr> = (first..first + TURN).map(address).collect();
        let started = on_cpu();
        for addr in &addresses {
            now += 500;
            black_box(&request(*addr, &headers, now));
        }
        let alone = on_cpu() - started;
        let started = on_cpu();
        for addr in &addresses {
            now += 500;
            black_box(&limiter.check(black_box(&request(*addr, &headers, now))));
        }
        let us = on_cpu() - started;
        let started = on_cpu();
        for addr in &addresses {
            let _ = black_box(governor.check_key(addr));
        }
        let them = on_cpu() - started;
        if turn >= warm {
            ours.push(us / f64::from(TURN));
            theirs.push(them / f64::from(TURN));
            own.push(alone / f64::from(TURN));
        }
    }
    Measured { ours: median(ours), governor: median(theirs), request: median(own) }
}

pub fn run(rows: &mut Rows) {
    // First, while no memory that was used before can be taken again.
    bytes(rows);
    let mut single = 0.0;
    for (case, algorithm, quota, keys) in [
        ("one limit, sliding window, 1 key", "sliding-window", PLENTY, 1),
        ("one limit, sliding window, 10,000 keys", "sliding-window", PLENTY, 10_000),
        ("one limit, gcra, 10,000 keys", "gcra", PLENTY, 10_000),
        ("one limit, always refused, 10,000 keys", "sliding-window", 1, 10_000),
        ("one limit, sliding window, 1,000,000 keys", "sliding-window", PLENTY, 1_000_000),
    ] {
        let Measured { ours, governor, request } = measure(&one("a", algorithm, quota), keys, quota);
        if keys == 1_000_000 {
            // So many keys lie in no cache: what memory costs, governor pays as well.
            rows.at_most(&format!("local: {case}"), ours, "ns", (governor, "governor"), 1.5);
        } else {
            rows.within(&format!("local: {case}"), ours, "ns", 150.0);
        }
        if case.contains("sliding window, 10,000") {
            single = ours;
        }
        rows.note(format!(
            "{case}: {request:.0} ns of it are the bench's own; governor, in turns on the same keys, {governor:.0} ns ({:.2} of it)",
            ours / governor
        ));
    }
    let Measured { ours, governor, .. } = measure(&three(), 10_000, PLENTY);
    rows.at_most(
        "local: three limits at once, 10,000 keys",
        ours,
        "ns",
        (single * 3.0, "3 x one limit"),
        1.0,
    );
    rows.note(format!("three limits at once: governor, for one limit, {governor:.0} ns"));
}

/// Three limits of a client.
fn three() -> String {
    one("a", "sliding-window", PLENTY) + &one("b", "gcra", PLENTY) + &one("c", "sliding-window", PLENTY)
}

/// A few decisions on a few keys, for who counts instructions; of one limit, or of three at once.
pub fn once(at_once: bool) {
    let limiter = limiter(&if at_once { three() } else { one("a", "sliding-window", PLENTY) });
    let headers = HeaderMap::new();
    for i in 0..20_000 {
        let addr = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i % 16));
        if let Check::Done(decision) =
            limiter.check(black_box(&request(addr, &headers, START + u64::from(i))))
        {
            black_box(&decision);
        }
    }
}

fn bytes(rows: &mut Rows) {
    const KEYS: u32 = 1_000_000;
    let addr = |i: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i));
    let before = resident();
    let minute = Quota::per_minute(NonZeroU32::new(1_000_000).expect("not zero"));
    let governor = RateLimiter::dashmap(minute);
    for i in 0..KEYS {
        let _ = governor.check_key(&addr(i));
    }
    let theirs = (resident() - before) / f64::from(KEYS);
    // As large as fits these keys with none pushed out to speak of.
    let limiter =
        limiter(&format!("[limit_store]\nmemory = \"160MiB\"\n{}", one("a", "sliding-window", 1000)));
    let headers = HeaderMap::new();
    let before = resident();
    for i in 0..KEYS {
        if let Check::Done(decision) = limiter.check(&request(addr(i), &headers, START)) {
            black_box(decision);
        }
    }
    let ours = (resident() - before) / f64::from(KEYS);
    let (mut text, mut keys, mut memory) = (String::new(), 0.0, 0.0);
    limiter.metrics(&mut text);
    for line in text.lines().filter(|line| line.contains("store=\"local\"")) {
        let value: f64 = line.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a number");
        if line.starts_with("gateway_limits_keys_max") {
            keys = value;
        } else if line.starts_with("gateway_limits_memory_bytes") {
            memory = value;
        }
    }
    rows.within("local: bytes a key, table full", memory / keys, "B", 128.0);
    rows.within("local: bytes a key, growth of the process by 1,000,000", ours, "B", 128.0);
    rows.note(format!(
        "1,000,000 keys grew the process by {theirs:.0} B a key of governor's, which pushes nobody out"
    ));
    black_box(&governor);
}
