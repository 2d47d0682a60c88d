//! A decision that takes no other way than the usual one allocates nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use gateway::client::ClientId;
use gateway::config::Config;
use gateway::limits::{Check, Decision, LimitRequest, Limiter};
use http::HeaderMap;

const START: u64 = 1_700_000_000_000_000_000;

/// Three limits at once, of each algorithm, for keys that are there already.
#[test]
fn a_hit_allocates_nothing() {
    let mut text = String::new();
    for (name, algorithm) in [("a", "sliding-window"), ("b", "gcra"), ("c", "sliding-window")] {
        text += &format!(
            "[[limits]]\nname = \"{name}\"\nquota = 100\nwindow = \"1m\"\nalgorithm = \"{algorithm}\"\n"
        );
    }
    let config = Config::parse(Path::new("/g.toml"), &text).expect("valid");
    let limiter = Limiter::new(&config.limits, [5, 6]);
    let headers = HeaderMap::new();
    let ask = |host: u32, turn: u64| {
        let request = LimitRequest::of(
            ClientId::direct(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + host))),
            &headers,
            START + turn * 1_000,
        );
        match limiter.check(&request) {
            Check::Done(Decision::Allowed(_)) => true,
            Check::Done(Decision::Refused(_)) => false,
            Check::Pending(_) => panic!("nothing to wait for"),
        }
    };
    // The first request of each key makes it.
    for host in 0..50 {
        assert!(ask(host, 0));
    }
    let mut passed = 0;
    let counted = allocation_counter::measure(|| {
        for turn in 1..200 {
            for host in 0..50 {
                passed += u32::from(ask(host, turn));
            }
        }
    });
    assert_eq!(passed, 50 * 99, "the quota is 100");
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
