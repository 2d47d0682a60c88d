//! A simulated week: fifty traffic mixes through the default scenarios. Each row says who it is, what
//! it asks for, and whether it may be banned; attackers must be, within their time, and nobody else.
//!
//! The table: `cargo test -p gateway-userspace --test bans_week -- --nocapture`. Traffic is generated, seeded by the row's name: the same in every run. The clock is simulated.

use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};

use gateway::bans::{Change, Engine, Guard, Offence, OffenceKind, Rates, Traffic};
use gateway::client::ClientId;
use gateway::config::Config;

const NOW: u64 = 1_700_000_000_000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// A stream of requests of one client.
#[derive(Clone, Copy)]
struct Requests {
    /// Requests in an hour of work, on average.
    an_hour: f64,
    /// Of 10,000 requests, how many offend.
    of_10000: u32,
    kind: OffenceKind,
    /// Hours of the day in which it works.
    hours: (u64, u64),
    /// Requests come this many at once.
    burst: u32,
}

#[derive(Clone, Copy)]
enum Must {
    /// Banned within this time of its first offence.
    FallWithin(u64),
    /// Never banned.
    Stand,
}

struct Mix {
    name: &'static str,
    streams: Vec<Requests>,
    must: Must,
}

const ALL_DAY: (u64, u64) = (0, 24);
const OFFICE: (u64, u64) = (8, 18);

fn stream(an_hour: f64, of_10000: u32, kind: OffenceKind, hours: (u64, u64), burst: u32) -> Requests {
    Requests { an_hour, of_10000, kind, hours, burst }
}

fn mixes() -> Vec<Mix> {
    use Must::{FallWithin, Stand};
    use OffenceKind::{
        Authentication, Handshake, Honeypot, KernelLimit, Limit, NotFound, Protocol, Slow, Waf,
    };
    let row = |name, must, streams: &[Requests]| Mix { name, streams: streams.to_vec(), must };
    let one =
        |name, must, an_hour, of_10000, kind| row(name, must, &[stream(an_hour, of_10000, kind, ALL_DAY, 1)]);
    vec![
        // Who attacks.
        one("scanner, 10 a second", FallWithin(MINUTE), 36_000.0, 9_000, NotFound),
        one("scanner, 1 a second", FallWithin(3 * MINUTE), 3_600.0, 9_500, NotFound),
        one("scanner, one in 3 s", FallWithin(10 * MINUTE), 1_200.0, 10_000, NotFound),
        one("slow scan, one a minute", FallWithin(4 * HOUR), 60.0, 10_000, NotFound),
        one("slow scan, one in 3 min", FallWithin(12 * HOUR), 20.0, 10_000, NotFound),
        row("scan at night only", FallWithin(9 * HOUR), &[stream(120.0, 10_000, NotFound, (1, 6), 1)]),
        one("SQL injection by a tool", FallWithin(MINUTE), 7_200.0, 9_000, Waf),
        one("SQL injection by hand", FallWithin(30 * MINUTE), 240.0, 5_000, Waf),
        one("attacks among page views", FallWithin(2 * HOUR), 2_000.0, 1_000, Waf),
        row("attacks in bursts", FallWithin(2 * HOUR), &[stream(60.0, 10_000, Waf, ALL_DAY, 20)]),
        one("brute force, 2 a second", FallWithin(MINUTE), 7_200.0, 10_000, Authentication),
        one("brute force, 5 a minute", FallWithin(10 * MINUTE), 300.0, 10_000, Authentication),
        one("brute force, one a minute", FallWithin(2 * DAY), 60.0, 10_000, Authentication),
        one("brute force, one in 5 min", FallWithin(2 * DAY), 12.0, 10_000, Authentication),
        one("credential stuffing, 3 % right", FallWithin(10 * MINUTE), 600.0, 9_700, Authentication),
        one("honeypot paths", FallWithin(3 * HOUR), 30.0, 10_000, Honeypot),
        row(
            "honeypot among page views",
            FallWithin(DAY),
            &[stream(300.0, 0, Waf, ALL_DAY, 1), stream(12.0, 10_000, Honeypot, ALL_DAY, 1)],
        ),
        one("smuggling attempts", FallWithin(10 * MINUTE), 1_800.0, 9_000, Protocol),
        one("handshake flood", FallWithin(MINUTE), 36_000.0, 10_000, Handshake),
        one("slowloris", FallWithin(10 * MINUTE), 720.0, 10_000, Slow),
        one("flood over the limit", FallWithin(5 * MINUTE), 72_000.0, 9_500, Limit),
        one("packet flood", FallWithin(5 * MINUTE), 3_600.0, 10_000, KernelLimit),
        row(
            "scanner that changes its ways",
            FallWithin(10 * MINUTE),
            &[stream(1_200.0, 9_000, NotFound, ALL_DAY, 1), stream(600.0, 9_000, Waf, ALL_DAY, 1)],
        ),
        row(
            "attacker that warms up with clean traffic",
            FallWithin(2 * HOUR),
            &[stream(4_000.0, 0, Waf, ALL_DAY, 1), stream(400.0, 10_000, Waf, ALL_DAY, 1)],
        ),
        row(
            "stuffing behind page views",
            FallWithin(HOUR),
            &[stream(600.0, 0, Waf, ALL_DAY, 1), stream(900.0, 10_000, Authentication, ALL_DAY, 1)],
        ),
        // Who does not.
        one("reader", Stand, 60.0, 50, NotFound),
        row("reader with a dead bookmark", Stand, &[stream(5.0, 10_000, NotFound, OFFICE, 1)]),
        row("editor whose text looks like SQL", Stand, &[stream(120.0, 100, Waf, OFFICE, 1)]),
        row(
            "person that forgot the password",
            Stand,
            &[stream(60.0, 0, Waf, OFFICE, 1), stream(4.0, 10_000, Authentication, (9, 10), 5)],
        ),
        row(
            "office of 50 behind NAT",
            Stand,
            &[stream(6_000.0, 100, NotFound, OFFICE, 4), stream(50.0, 1_000, Authentication, (8, 10), 1)],
        ),
        row(
            "carrier NAT with a thousand people",
            Stand,
            &[
                stream(40_000.0, 200, NotFound, ALL_DAY, 5),
                stream(40_000.0, 10, Waf, ALL_DAY, 1),
                stream(2_000.0, 1_500, Authentication, ALL_DAY, 1),
            ],
        ),
        row(
            "university behind a proxy pool",
            Stand,
            &[stream(20_000.0, 150, NotFound, ALL_DAY, 10), stream(10_000.0, 5, Waf, OFFICE, 1)],
        ),
        one("monitoring probe", Stand, 120.0, 0, NotFound),
        one("probe that opens and closes TCP", Stand, 360.0, 10_000, Handshake),
        one("probe of a page that is gone", Stand, 6.0, 10_000, NotFound),
        one("search crawler", Stand, 3_000.0, 800, NotFound),
        one("search crawler on an old site map", Stand, 1_800.0, 2_500, NotFound),
        row("crawler in bursts", Stand, &[stream(2_000.0, 500, NotFound, ALL_DAY, 100)]),
        one("link checker", Stand, 600.0, 1_500, NotFound),
        row("feed reader", Stand, &[stream(4.0, 0, NotFound, ALL_DAY, 1)]),
        row("API client with bursts", Stand, &[stream(6_000.0, 1_000, Limit, ALL_DAY, 600)]),
        row("API client that obeys after a refusal", Stand, &[stream(3_000.0, 3_000, Limit, OFFICE, 200)]),
        row(
            "API client with an expired token",
            Stand,
            &[stream(600.0, 0, Waf, ALL_DAY, 1), stream(6.0, 10_000, Authentication, ALL_DAY, 1)],
        ),
        row("mobile app on a bad line", Stand, &[stream(200.0, 300, Slow, ALL_DAY, 2)]),
        row("old client without TLS 1.2", Stand, &[stream(20.0, 10_000, Handshake, OFFICE, 3)]),
        row(
            "browser with an extension that breaks headers",
            Stand,
            &[stream(100.0, 200, Protocol, OFFICE, 1)],
        ),
        row("backup job at night", Stand, &[stream(20_000.0, 10, NotFound, (2, 4), 50)]),
        row("shop on sale day", Stand, &[stream(2_000.0, 400, Limit, OFFICE, 30)]),
        row("web hooks", Stand, &[stream(900.0, 100, NotFound, ALL_DAY, 20)]),
        row("developer on a staging site", Stand, &[stream(300.0, 1_200, NotFound, OFFICE, 3)]),
    ]
}

/// Numbers from 0 to 1, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The arrivals of one stream over the week, as (time, offends).
fn arrivals(stream: Requests, random: &mut Random, until: u64) -> Vec<(u64, bool)> {
    let mut all = Vec::new();
    let gap = 3_600_000.0 / stream.an_hour * f64::from(stream.burst);
    let mut at = 0.0;
    loop {
        // Exponential gaps between bursts.
        at += -gap * (1.0 - random.next()).ln();
        if at >= until as f64 {
            return all;
        }
        let hour = at as u64 / HOUR % 24;
        if (stream.hours.0..stream.hours.1).contains(&hour) {
            for i in 0..stream.burst {
                let offends = random.next() * 10_000.0 < f64::from(stream.of_10000);
                all.push((at as u64 + u64::from(i) * 20, offends));
            }
        }
    }
}

struct Outcome {
    /// From the first offence to the first ban.
    fell_after: Option<u64>,
    reason: String,
    bans: usize,
}

/// Plays one mix; who is banned sends nothing that is seen until the ban ends.
fn play(mix: &Mix, addr: Ipv4Addr) -> Outcome {
    let config = Config::parse(std::path::Path::new("t.toml"), "").expect("configuration").bans;
    let mut engine = Engine::new(&config, Guard::new(20, 40), 1);
    // One client alone: a few counters do.
    let traffic = Traffic::with_cells(RandomState::new(), 8);
    let mut rates = Rates::new(&traffic, NOW);
    let mut random =
        Random(mix.name.bytes().fold(1, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b))));
    // What falls, falls early; who stands is played for the week, the busiest for a million requests.
    let until = match mix.must {
        Must::FallWithin(time) => (time * 2 + DAY).min(WEEK),
        Must::Stand => {
            let an_hour: f64 = mix.streams.iter().map(|s| s.an_hour).sum();
            WEEK.min((1e6 / an_hour * HOUR as f64) as u64)
        }
    };
    let mut all: Vec<(u64, Option<OffenceKind>)> = Vec::new();
    for stream in &mix.streams {
        let one = arrivals(*stream, &mut random, until);
        all.extend(one.into_iter().map(|(at, offends)| (at, offends.then_some(stream.kind))));
    }
    all.sort_unstable_by_key(|(at, _)| *at);
    let client = ClientId::direct(IpAddr::V4(addr));
    let (mut first, mut banned_until) = (None, 0);
    let mut outcome = Outcome { fell_after: None, reason: String::new(), bans: 0 };
    for (at, kind) in all {
        let now = NOW + at;
        if now < banned_until {
            continue;
        }
        engine.ledger.expire(now);
        engine.ledger.take_changes();
        rates.turn(&traffic, now);
        traffic.seen(client.addr());
        let Some(kind) = kind else { continue };
        first.get_or_insert(now);
        let offence = Offence {
            at_ms: now,
            client,
            kind,
            weight: 5,
            rules: Vec::new(),
            subject: None,
            request_id: None,
            ja4: None,
        };
        for change in engine.judge(&offence, 1, rates.of(&traffic, client.addr()), None, now) {
            if let Change::Began(ban) = change {
                outcome.bans += 1;
                outcome.fell_after = outcome.fell_after.or(first.map(|f| now - f));
                if outcome.reason.is_empty() {
                    outcome.reason = ban.reason.to_string();
                }
                banned_until = ban.end_or_max();
            }
        }
    }
    outcome
}

fn time(ms: u64) -> String {
    match ms {
        0..MINUTE => format!("{} s", ms / SECOND),
        MINUTE..HOUR => format!("{} min", ms / MINUTE),
        _ => format!("{:.1} h", ms as f64 / HOUR as f64),
    }
}

#[test]
fn attackers_fall_in_time_and_nobody_else_is_hit() {
    let mixes = mixes();
    assert_eq!(mixes.len(), 50);
    let mut wrong = Vec::new();
    let (mut fell, mut hit) = (0, 0);
    println!("{:<46} {:<16} what happened", "traffic", "must be banned");
    for (index, mix) in mixes.iter().enumerate() {
        let outcome = play(mix, Ipv4Addr::new(192, 0, 2, index as u8));
        let told = match outcome.fell_after {
            None => "never banned".to_owned(),
            Some(after) => {
                format!("banned after {}, {} times: {}", time(after), outcome.bans, outcome.reason)
            }
        };
        let may = match mix.must {
            Must::Stand => "never".to_owned(),
            Must::FallWithin(limit) => format!("within {}", time(limit)),
        };
        println!("{:<46} {may:<16} {told}", mix.name);
        let banned = usize::from(outcome.fell_after.is_some());
        let right = match mix.must {
            Must::Stand => {
                hit += banned;
                banned == 0
            }
            Must::FallWithin(limit) => {
                fell += banned;
                outcome.fell_after.is_some_and(|after| after <= limit)
            }
        };
        if !right {
            wrong.push(format!("{}: {told}", mix.name));
        }
    }
    let attackers = mixes.iter().filter(|m| matches!(m.must, Must::FallWithin(_))).count();
    println!("{fell} of {attackers} attackers banned, {hit} of {} others hit", mixes.len() - attackers);
    assert!(wrong.is_empty(), "{} mixes went wrong:\n{}", wrong.len(), wrong.join("\n"));
}
