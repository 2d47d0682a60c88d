//! Bounds that no key of the configuration sets, provoked.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::answers::{GET, ask};
use super::harness::Options;
use super::{Gateway, Origin};

fn path_of(request: &super::harness::Request) -> String {
    request.line().split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_servers_head_and_its_interim_answers_are_bounded() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n";
    let origin = Origin::start(|stream, request| {
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
        let answer = match &*path_of(request) {
            "/bytes" => format!("{OK}x: {}\r\n\r\n", "y".repeat(256 << 10)),
            "/fields" => format!("{OK}{}\r\n", "x: y\r\n".repeat(512)),
            "/many" => format!("{OK}{}\r\n", "x: y\r\n".repeat(500)),
            "/hints" => format!("{}{OK}\r\n", hints.repeat(17)),
            _ => format!("{}{OK}\r\n", hints.repeat(16)),
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let gateway = Gateway::before(&origin, "");
    let malformed = (502, "upstream_malformed".to_owned());
    let good = (200, String::new());
    for (path, expected) in [
        ("/bytes", &malformed),
        ("/fields", &malformed),
        ("/many", &good),
        ("/hints", &malformed),
        ("/fewer-hints", &good),
    ] {
        assert_eq!(&ask(&gateway, &GET.replace("/ ", &format!("{path} "))), expected, "{path}");
    }
}

#[test]
fn one_request_tries_three_servers_at_most() {
    let dead: Vec<_> = (0..5).map(|_| format!("\"{}\"", Origin::hello().address)).collect();
    std::thread::sleep(Duration::from_millis(50));
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [{}]\nmax_failures = 0\n",
        dead.join(", ")
    );
    let gateway = Gateway::start(&text, Options::default());
    assert_eq!(ask(&gateway, GET), (502, "upstream_connect".to_owned()));
    let metrics = gateway.metrics();
    assert!(metrics.contains("gateway_upstream_retries_total{upstream=\"u\"} 2"), "{metrics}");
}

#[test]
fn what_a_trusted_proxy_says_is_bounded() {
    let origin = Origin::hello();
    let gateway = Gateway::before(&origin, "[client]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n");
    // Forty trusted hops: the walk ends with the 32nd from the right.
    let hops: Vec<String> = (1..=40).map(|n| format!("10.0.0.{n}")).collect();
    for (length, is_kept) in [(128, true), (129, false)] {
        origin.seen.lock().expect("lock").clear();
        let id = "i".repeat(length);
        let fields = format!("X-Request-Id: {id}\r\nX-Forwarded-For: {}\r\n\r\n", hops.join(", "));
        let mut client = gateway.connect();
        client.send(GET.replace("\r\n\r\n", &format!("\r\n{fields}")));
        let response = client.response().expect("an answer");
        assert_eq!(response.field("x-request-id") == Some(&*id), is_kept, "{length}");
        assert_eq!(origin.requests()[0].field("x-real-ip"), Some("10.0.0.9"), "{length}");
    }
}

#[test]
fn requests_ahead_of_their_turn_wait_in_the_socket() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |stream, _| {
        // Only the first waits.
        let _ = gate.lock().expect("lock").recv_timeout(Duration::from_secs(20));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let gateway = Gateway::before(&origin, "");
    let mut client = gateway.connect();
    client.stream.set_write_timeout(Some(Duration::from_secs(2))).expect("timeout");
    // Far more than any buffer of a socket holds.
    let piece = GET.repeat(32 << 10);
    let taken = (0..64).take_while(|_| client.stream.write_all(piece.as_bytes()).is_ok()).count();
    assert!(taken < 64, "64 MB of requests were read while the first waits");
    drop(release);
    assert_eq!(client.response().expect("an answer").status(), 200);
}

#[test]
fn an_idle_connection_has_a_moment_when_draining_begins() {
    let origin = Origin::hello();
    let mut gateway = Gateway::before(&origin, "[http]\nidle_timeout = \"1m\"\n");
    let mut clients: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.response().expect("an answer").field("connection"), None);
    }
    let started = Instant::now();
    let drained = std::thread::spawn(move || gateway.drain(Duration::from_secs(30)));
    std::thread::sleep(Duration::from_millis(200));
    // A request that was on its way is answered, and told that it is the last.
    clients[0].send(GET);
    assert_eq!(clients[0].response().expect("an answer").field("connection"), Some("close"));
    assert!(clients[1].is_closed());
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(drained.join().expect("drained"), 0);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
