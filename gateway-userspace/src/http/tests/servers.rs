//! Several servers: their health, and sending again.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::harness::{Gateway, Options, Origin};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn config(servers: &[&Origin], more: &str) -> String {
    let servers: Vec<_> = servers.iter().map(|o| format!("\"{}\"", o.address)).collect();
    format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [{}]\n{more}",
        servers.join(", ")
    )
}

fn status(gateway: &Gateway, bytes: &str) -> u16 {
    let mut client = gateway.connect();
    client.send(bytes);
    client.response().map_or(0, |r| r.status())
}

#[test]
fn a_dead_server_costs_no_request() {
    let (dead, alive) = (Origin::hello(), Origin::hello());
    let gateway = Gateway::start(
        &config(&[&dead, &alive], "balance = \"round-robin\"\nmax_failures = 2\n"),
        Options::default(),
    );
    for _ in 0..4 {
        assert_eq!(status(&gateway, GET), 200);
    }
    assert_eq!((dead.requests().len(), alive.requests().len()), (2, 2));
    let name = dead.address.to_string();
    drop(dead);
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..10 {
        // The pooled connection still leads to a thread of the dead one's until it closes: both answers are good.
        assert_eq!(status(&gateway, GET), 200);
    }
    let metrics = gateway.metrics();
    let failures = format!("gateway_upstream_failures_total{{upstream=\"u\",server=\"{name}\"}}");
    assert!(metrics.contains(&failures), "{metrics}");
}

#[test]
fn a_closed_connection_is_noticed_and_the_request_sent_again() {
    // Each connection answers once, then closes on the second request without a word.
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let origin = Origin::start(move |stream, request| {
        let first = request.line().contains("/first");
        count.fetch_add(1, Ordering::Relaxed);
        first && stream.write_all(OK).is_ok() || {
            // Only a fresh connection gets its answer.
            request.field("x-fresh").is_some() && stream.write_all(OK).is_ok()
        }
    });
    let gateway = Gateway::start(&config(&[&origin], ""), Options::default());
    let mut client = gateway.connect();
    client.send(GET.replace("/ ", "/first "));
    assert_eq!(client.response().expect("an answer").status(), 200);
    // A GET is sent once more (and fails again here); a POST is not.
    let before = origin.requests().len();
    client.send(GET);
    assert_eq!(client.response().expect("an answer").status(), 502);
    assert_eq!(origin.requests().len() - before, 2);
    client.send(GET.replace("/ ", "/first "));
    assert_eq!(client.response().expect("an answer").status(), 200);
    let before = origin.requests().len();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.response().expect("an answer").status(), 502);
    assert_eq!(origin.requests().len() - before, 1);
}

#[test]
fn health_checks_take_a_server_out_and_back_in() {
    let is_well = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&is_well);
    let sick = Origin::start(move |stream, request| {
        let bad = request.line().contains("/health") && !state.load(Ordering::Relaxed);
        let answer = if bad { b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n" } else { OK };
        stream.write_all(answer).is_ok()
    });
    let well = Origin::hello();
    let more = "balance = \"round-robin\"\n[upstreams.health_check]\npath = \"/health\"\ninterval = \"1s\"\n\
                healthy_after = 1\nunhealthy_after = 1\n";
    let gateway = Gateway::start(&config(&[&sick, &well], more), Options::default());
    let healthy = |expected: u8| {
        let line =
            format!("gateway_upstream_healthy{{upstream=\"u\",server=\"{}\"}} {expected}", sick.address);
        let started = Instant::now();
        while !gateway.metrics().contains(&line) {
            assert!(started.elapsed() < Duration::from_secs(5), "{}", gateway.metrics());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    healthy(0);
    let plain = |o: &Origin| o.requests().iter().filter(|r| !r.line().contains("/health")).count();
    for _ in 0..6 {
        assert_eq!(status(&gateway, GET), 200);
    }
    assert_eq!((plain(&sick), plain(&well)), (0, 6));
    is_well.store(true, Ordering::Relaxed);
    healthy(1);
    for _ in 0..6 {
        assert_eq!(status(&gateway, GET), 200);
    }
    assert_eq!(plain(&sick), 3);
}
