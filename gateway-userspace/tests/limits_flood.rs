//! Two million distinct clients thrown at a store that holds a hundred thousand keys: memory stays under its bound,
//! and those who use their limit keep their count. `cargo bench -p gateway-userspace --bench limits -- flood` does it with ten million.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use gateway::client::ClientId;
use gateway::config::Config;
use gateway::limits::{Check, Decision, LimitRequest, Limiter};
use http::HeaderMap;

const FLOOD: u64 = 2_000_000;
const GOOD: u32 = 500;

#[test]
fn a_flood_of_clients_costs_the_others_nothing() {
    let text = "[limit_store]\nmemory = \"12MiB\"\n[[limits]]\nname = \"a\"\nquota = 50\nwindow = \"10m\"\n";
    let config = Config::parse(Path::new("/gateway.toml"), text).expect("valid");
    let limiter = Limiter::new(&config.limits, [3, 4]);
    let headers = HeaderMap::new();
    let mut now = 1_700_000_000_000_000_000;
    let mut passes = |addr: IpAddr| {
        now += 10_000;
        let request = LimitRequest::of(ClientId::direct(addr), &headers, now);
        matches!(limiter.check(&request), Check::Done(Decision::Allowed(_)))
    };
    let good = |i: u32| IpAddr::V4(Ipv4Addr::from(0xc633_6400 + i));
    for i in 0..GOOD * 20 {
        assert!(passes(good(i % GOOD)));
    }
    for i in 0..FLOOD {
        let network = u128::from(0x2001_0db8_u32) << 96 | u128::from(i) << 64;
        assert!(passes(IpAddr::V6(Ipv6Addr::from(network))), "a newcomer is let in");
    }
    for i in 0..GOOD {
        let more = (0..50).filter(|_| passes(good(i))).count();
        assert_eq!(more, 30, "client {i} had used 20 of 50");
    }
    let mut metrics = String::new();
    limiter.metrics(&mut metrics);
    let number = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).expect("the metric");
        line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    assert!(number("gateway_limits_memory_bytes{store=\"local\"}") <= 12 << 20, "{metrics}");
    assert!(
        number("gateway_limits_keys{store=\"local\"}") <= number("gateway_limits_keys_max{store=\"local\"}")
    );
    assert!(number("gateway_limits_evicted_total{store=\"local\"}") > FLOOD / 2);
}
