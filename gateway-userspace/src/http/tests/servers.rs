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
    // One that doesn't answer is no better.
    let silent = Origin::start(|stream, _| {
        std::thread::sleep(Duration::from_secs(30));
        stream.write_all(OK).is_ok()
    });
    let well = Origin::hello();
    let more = "balance = \"round-robin\"\n[upstreams.health_check]\npath = \"/health\"\nhost = \"check.test\"\n\
                interval = \"1s\"\ntimeout = \"1s\"\nhealthy_after = 1\nunhealthy_after = 1\n";
    let gateway = Gateway::start(&config(&[&sick, &well, &silent], more), Options::default());
    let healthy = |server: &Origin, expected: u8| {
        let line =
            format!("gateway_upstream_healthy{{upstream=\"u\",server=\"{}\"}} {expected}", server.address);
        let started = Instant::now();
        while !gateway.metrics().contains(&line) {
            assert!(started.elapsed() < Duration::from_secs(20), "{}", gateway.metrics());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    healthy(&sick, 0);
    healthy(&silent, 0);
    assert_eq!(sick.requests()[0].field("host"), Some("check.test"));
    let plain = |o: &Origin| o.requests().iter().filter(|r| !r.line().contains("/health")).count();
    for _ in 0..6 {
        assert_eq!(status(&gateway, GET), 200);
    }
    assert_eq!((plain(&sick), plain(&well)), (0, 6));
    is_well.store(true, Ordering::Relaxed);
    healthy(&sick, 1);
    for _ in 0..6 {
        assert_eq!(status(&gateway, GET), 200);
    }
    assert_eq!(plain(&sick), 3);
}

#[test]
fn a_server_that_failed_gets_requests_again_after_its_pause() {
    let is_well = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&is_well);
    let failing =
        Origin::start(move |stream, _| state.load(Ordering::Relaxed) && stream.write_all(OK).is_ok());
    let well = Origin::hello();
    let more = "balance = \"round-robin\"\nmax_failures = 1\nfailure_pause = \"2s\"\n";
    let gateway = Gateway::start(&config(&[&failing, &well], more), Options::default());
    // It closes instead of answering: one request fails, and the next ones go elsewhere.
    let answers: Vec<u16> = (0..6).map(|_| status(&gateway, GET)).collect();
    assert_eq!(answers.iter().filter(|status| **status == 502).count(), 1, "{answers:?}");
    assert_eq!((failing.requests().len(), well.requests().len()), (1, 5));
    is_well.store(true, Ordering::Relaxed);
    let until = Instant::now() + Duration::from_secs(20);
    while failing.requests().len() < 2 {
        assert!(Instant::now() < until, "left out for good");
        assert_eq!(status(&gateway, GET), 200);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn unused_connections_are_closed() {
    let origin = Origin::hello();
    let gateway = Gateway::start(&config(&[&origin], "idle_timeout = \"100ms\"\n"), Options::default());
    assert_eq!(status(&gateway, GET), 200);
    let line = format!("gateway_upstream_idle_connections{{upstream=\"u\",server=\"{}\"}} 0", origin.address);
    let until = Instant::now() + Duration::from_secs(20);
    while !gateway.metrics().contains(&line) {
        assert!(Instant::now() < until, "{}", gateway.metrics());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_header_chooses_the_server_and_keeps_it() {
    let servers: Vec<Origin> = (0..3).map(|_| Origin::hello()).collect();
    let all: Vec<&Origin> = servers.iter().collect();
    let more = "balance = \"header-hash\"\nhash_header = \"X-Tenant\"\n";
    let gateway = Gateway::start(&config(&all, more), Options::default());
    for n in 0..30 {
        for _ in 0..2 {
            let get = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Tenant: t{n}\r\n\r\n");
            assert_eq!(status(&gateway, &get), 200);
        }
    }
    let mut homes = 0;
    for server in &servers {
        let seen = server.requests();
        let mut tenants: Vec<_> = seen.iter().filter_map(|r| r.field("x-tenant")).collect();
        let requests = tenants.len();
        tenants.sort_unstable();
        tenants.dedup();
        assert_eq!(requests, 2 * tenants.len(), "a tenant was at two servers");
        homes += tenants.len();
    }
    assert_eq!(homes, 30);
    // Without the field the client decides: always the same server.
    let before: Vec<usize> = servers.iter().map(|s| s.requests().len()).collect();
    for _ in 0..6 {
        assert_eq!(status(&gateway, GET), 200);
    }
    let grown: Vec<usize> = servers.iter().zip(before).map(|(s, n)| s.requests().len() - n).collect();
    assert!(grown.contains(&6), "{grown:?}");
}

#[test]
fn retries_keep_within_their_budget() {
    let alive = Origin::hello();
    let dead: Vec<Origin> = (0..3).map(|_| Origin::hello()).collect();
    let all: Vec<&Origin> = dead.iter().chain([&alive]).collect();
    let more = "balance = \"round-robin\"\nmax_failures = 0\n";
    let gateway = Gateway::start(&config(&all, more), Options::default());
    drop(dead);
    std::thread::sleep(Duration::from_millis(50));
    let requests = 200;
    let answered = (0..requests).filter(|_| status(&gateway, GET) == 200).count();
    let metrics = gateway.metrics();
    let line = metrics.lines().find(|l| l.starts_with("gateway_upstream_retries_total{")).expect("a number");
    let retries: usize = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    // Ten at the start, one for five requests: not one more, although every other request fails.
    assert!((10..=10 + requests / 5).contains(&retries), "{retries}");
    assert!((20..requests).contains(&answered), "{answered}");
}

#[test]
fn idle_connections_are_bounded_and_a_name_is_followed() {
    let origin = Origin::start(|stream, _| {
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(OK).is_ok()
    });
    let text = format!(
        "[server]\nworkers = 1\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\n\
         servers = [\"localhost:{}\"]\nmax_idle = 2\nidle_timeout = \"30s\"\nresolve_interval = \"1s\"\n",
        origin.address.port()
    );
    let gateway = Gateway::start(&text, Options::default());
    let mut clients: Vec<_> = (0..12).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    for client in &mut clients {
        assert_eq!(client.response().expect("an answer").status(), 200);
    }
    let metrics = gateway.metrics();
    let line =
        metrics.lines().find(|l| l.starts_with("gateway_upstream_idle_connections{")).expect("a number");
    let idle: usize = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    // Two for each of the two workers.
    assert!((1..=4).contains(&idle), "{line}");
    // Resolved again by now, to the same place.
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(status(&gateway, GET), 200);
    let metrics = gateway.metrics();
    for (name, expected) in
        [("gateway_upstream_address_changes_total{", " 0"), ("gateway_upstream_failed_lookups_total{", " 0")]
    {
        let line = metrics.lines().find(|l| l.starts_with(name)).expect("a number");
        assert!(line.ends_with(expected), "{line}");
    }
}

#[test]
fn routes_and_upstreams_are_counted_by_name() {
    let origin = Origin::start(|stream, request| {
        let answer: &[u8] = if request.line().contains("/bad") {
            b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"
        } else {
            OK
        };
        stream.write_all(answer).is_ok()
    });
    let routes = "[[routes]]\nname = \"site\"\nupstream = \"u\"\n[[routes]]\nname = \"api\"\nupstream = \"u\"\npath_prefix = \"/api\"\nmethods = [\"GET\"]\n";
    let gateway = Gateway::start(&config(&[&origin], routes), Options::default());
    for (path, expected) in [("/", 200), ("/api/x", 200), ("/api/bad", 500), ("/../x", 400)] {
        assert_eq!(status(&gateway, &GET.replace("/ ", &format!("{path} "))), expected);
    }
    for line in [
        "gateway_route_responses_total{route=\"site\",class=\"2xx\"} 1",
        "gateway_route_responses_total{route=\"api\",class=\"2xx\"} 1",
        "gateway_route_responses_total{route=\"api\",class=\"5xx\"} 1",
        "gateway_route_responses_total{route=\"other\",class=\"4xx\"} 1",
        "gateway_route_request_seconds_count{route=\"api\"} 2",
        "gateway_upstream_responses_total{upstream=\"u\",class=\"2xx\"} 2",
        "gateway_upstream_responses_total{upstream=\"u\",class=\"5xx\"} 1",
        "gateway_upstream_response_seconds_count{upstream=\"u\"} 3",
    ] {
        // A request is counted once its answer is out: the client may be faster.
        let until = Instant::now() + Duration::from_secs(5);
        while !gateway.metrics().lines().any(|l| l == line) {
            assert!(Instant::now() < until, "{line}\n{}", gateway.metrics());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
