//! Nanoseconds a decision and bytes a key, beside governor.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::Path;

use gateway::client::ClientId;
use gateway::config::Config;
use gateway::limits::{Check, LimitRequest, Limiter};
use governor::{Quota, RateLimiter};
use http::{HeaderMap, Method};

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
    LimitRequest {
        client: ClientId::direct(addr),
        route: "main",
        host: "example.org",
        method: &Method::GET,
        path: "/",
        query: None,
        headers,
        ja4: None,
        certificate: None,
        country: None,
        asn: None,
        now,
    }
}

fn one(name: &str, algorithm: &str, quota: u32) -> String {
    format!("[[limits]]\nname = \"{name}\"\nquota = {quota}\nwindow = \"1m\"\nalgorithm = \"{algorithm}\"\n")
}

/// Nanoseconds a decision, by turns with governor on the same keys.
fn measure(text: &str, keys: u32) -> (f64, f64) {
    // The default, or as much as the keys need.
    let memory = if keys > 500_000 { "256MiB" } else { "128MiB" };
    let limiter = limiter(&format!("[limit_store]\nmemory = \"{memory}\"\n{text}"));
    let minute = Quota::per_minute(NonZeroU32::new(1_000_000).expect("not zero"));
    let governor = RateLimiter::dashmap(minute);
    let headers = HeaderMap::new();
    let addr = |i: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i.wrapping_mul(2_654_435_761) % keys));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut now = START;
    // The first turns make the keys.
    let warm = (keys / TURN + 1) as usize;
    for turn in 0..TURNS + warm {
        let first = turn as u32 * TURN;
        let started = on_cpu();
        for i in first..first + TURN {
            now += 500;
            let request = request(addr(i), &headers, now);
            if let Check::Done(decision) = limiter.check(&request) {
                black_box(decision);
            }
        }
        let us = on_cpu() - started;
        let started = on_cpu();
        for i in first..first + TURN {
            let _ = black_box(governor.check_key(&addr(i)));
        }
        let them = on_cpu() - started;
        if turn >= warm {
            ours.push(us / f64::from(TURN));
            theirs.push(them / f64::from(TURN));
        }
    }
    (median(ours), median(theirs))
}

pub fn run(rows: &mut Rows) {
    // First, while no memory that was used before can be taken again.
    bytes(rows);
    for (case, text, keys) in [
        ("one limit, sliding window, 1 key", one("a", "sliding-window", 1_000_000), 1),
        ("one limit, sliding window, 10,000 keys", one("a", "sliding-window", 1_000_000), 10_000),
        ("one limit, sliding window, 1,000,000 keys", one("a", "sliding-window", 1_000_000), 1_000_000),
        ("one limit, gcra, 10,000 keys", one("a", "gcra", 1_000_000), 10_000),
        ("one limit, two counters, 10,000 keys", one("a", "weighted-counters", 1_000_000), 10_000),
        ("one limit, always refused, 10,000 keys", one("a", "sliding-window", 1), 10_000),
    ] {
        let (ours, theirs) = measure(&text, keys);
        rows.within(&format!("local: {case}"), ours, "ns", 150.0);
        rows.note(format!(
            "{case}: governor, in turns on the same keys, {theirs:.0} ns ({:.2} of it)",
            ours / theirs
        ));
    }
    let three = one("a", "sliding-window", 1_000_000)
        + &one("b", "gcra", 1_000_000)
        + &one("c", "sliding-window", 100_000_000);
    let (ours, theirs) = measure(&three, 10_000);
    rows.at_most("local: three limits at once, 10,000 keys", ours, "ns", (theirs * 3.0, "3 x governor"), 1.5);
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
    rows.note(format!("1,000,000 keys grew the process by {ours:.0} B a key, governor's by {theirs:.0} B"));
    black_box(&governor);
}
