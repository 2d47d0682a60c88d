//! Ten million distinct keys thrown at a store that holds half a million.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway::limits::{Check, Decision};
use http::HeaderMap;

use super::local::{limiter, request};
use super::rows::{Rows, on_cpu, resident};

const MEMORY: f64 = 64.0 * 1024.0 * 1024.0;
const FLOOD: u64 = 10_000_000;
const GOOD: u32 = 1_000;
const START: u64 = 1_700_000_000_000_000_000;

pub fn run(rows: &mut Rows) {
    let text = "[limit_store]\nmemory = \"64MiB\"\n[[limits]]\nname = \"a\"\nquota = 100\nwindow = \"10m\"\n";
    let limiter = limiter(text);
    let headers = HeaderMap::new();
    let mut now = START;
    let mut ask = |addr: IpAddr| {
        now += 1_000;
        match limiter.check(&request(addr, &headers, now)) {
            Check::Done(Decision::Allowed(permit)) => {
                drop(black_box(permit));
                true
            }
            _ => false,
        }
    };
    let good = |i: u32| IpAddr::V4(Ipv4Addr::from(0xc000_0000 + i));
    let before = resident();
    for _ in 0..60 {
        for i in 0..GOOD {
            assert!(ask(good(i)));
        }
    }
    let started = on_cpu();
    for i in 0..FLOOD {
        let addr = u128::from(0x2001_0db8_u32) << 96 | u128::from(i) << 64;
        assert!(ask(IpAddr::V6(Ipv6Addr::from(addr))), "a newcomer is let in");
    }
    let each = (on_cpu() - started) / FLOOD as f64;
    let grown = resident() - before;
    let mut wrong = 0_u32;
    for i in 0..GOOD {
        let more = (0..60).filter(|_| ask(good(i))).count() as u32;
        wrong += u32::from(more != 40);
    }
    rows.within("flood: memory after 10,000,000 keys", grown / 1_048_576.0, "MiB", MEMORY / 1_048_576.0);
    rows.within(
        "flood: good clients (60 of 100 used) whose count was lost, +1",
        f64::from(wrong) + 1.0,
        "",
        1.0,
    );
    rows.note(format!(
        "flood: a new key while the table is full, with somebody pushed out for it: {each:.0} ns"
    ));
}
