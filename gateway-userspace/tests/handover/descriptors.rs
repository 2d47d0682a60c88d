//! Descriptors that run out: with some kept free the client is told, and without the daemon waits; either way it lives on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::lab::{Client, Lab, PATIENCE, Running, origin};

/// Descriptors that the daemon may have, and connections that it is offered.
const LIMIT: u32 = 160;
const OFFERED: usize = 200;

/// The daemon with few descriptors.
fn start(lab: &Lab) -> Running {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {LIMIT}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_gateway"))
        .args(["run", "--config"])
        .arg(lab.folder.join("gateway.toml"));
    lab.start_as("gateway", command)
}

/// What a request over `stream` gets: its status, or nothing.
fn status(stream: &mut TcpStream) -> Option<u16> {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    String::from_utf8_lossy(&head[9..]).parse().ok()
}

/// Waits until requests are served again.
fn recovers(lab: &Lab) {
    let started = Instant::now();
    loop {
        let mut client = Client { address: lab.address(), keeps: false, connection: None };
        match client.get() {
            Ok(()) => return,
            Err(e) => assert!(started.elapsed() < PATIENCE, "not served again: {e}\n{}", lab.log("gateway")),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn number_of(metrics: &str, name: &str) -> u64 {
    let line =
        metrics.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{metrics}"));
    line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn those_kept_free_tell_the_client() {
    let lab =
        Lab::new("descriptors", &[origin()], "[http]\nspare_descriptors = 40\nheader_timeout = \"60s\"\n");
    let mut gateway = start(&lab);
    // All of them are open before the first asks: one that is refused would make room for another.
    let mut held: Vec<TcpStream> =
        (0..OFFERED).map(|_| TcpStream::connect(lab.address()).expect("connected")).collect();
    let got: Vec<Option<u16>> = held.iter_mut().map(status).collect();
    for expected in [Some(200), Some(503), None] {
        assert!(got.contains(&expected), "{expected:?} in {got:?}");
    }
    assert!(got.iter().all(|s| matches!(s, Some(200 | 503) | None)), "{got:?}");
    drop(held);
    recovers(&lab);
    assert!(number_of(&lab.metrics(), "gateway_http_shed_total{short=\"descriptors\"}") > 0);
    assert!(gateway.0.try_wait().expect("known").is_none(), "{}", lab.log("gateway"));
}

#[test]
fn with_none_kept_free_accepting_waits() {
    let lab = Lab::new("exhausted", &[origin()], "[http]\nspare_descriptors = 0\nheader_timeout = \"60s\"\n");
    let mut gateway = start(&lab);
    let mut early = Client { address: lab.address(), keeps: true, connection: None };
    early.get().expect("served");
    // The kernel takes them, the daemon can't.
    let held: Vec<TcpStream> =
        (0..OFFERED).map(|_| TcpStream::connect(lab.address()).expect("connected")).collect();
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..20 {
        early.get().expect("who is in is served");
    }
    drop(held);
    recovers(&lab);
    assert!(number_of(&lab.metrics(), "gateway_listen_failed_accepts_total") > 0);
    assert!(gateway.0.try_wait().expect("known").is_none(), "{}", lab.log("gateway"));
}
