//! Restarts and reloads that nobody notices.

use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lab::{Client, Lab, PATIENCE, number, origin};

#[test]
fn no_request_fails_over_reloads_and_restarts() {
    let requests = number("GATEWAY_HANDOVER_REQUESTS", 12_000);
    let (reloads, restarts) = (number("GATEWAY_HANDOVER_RELOADS", 6), number("GATEWAY_HANDOVER_RESTARTS", 3));
    let lab = Arc::new(Lab::new("handover", &[origin()], ""));
    let mut gateway = lab.start("gateway-0", &[]);
    let (sent, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = [true, true, true, false]
        .into_iter()
        .map(|keeps| {
            let (sent, is_over, address) = (Arc::clone(&sent), Arc::clone(&is_over), lab.address());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                let mut client = Client { address, keeps, connection: None };
                while !is_over.load(Ordering::Relaxed) {
                    if let Err(e) = client.get() {
                        failed.push(e.to_string());
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        })
        .collect();
    let started = Instant::now();
    let steps = reloads + restarts;
    let mut restarted = 0;
    for step in 0..steps {
        // Spread over the whole of the load.
        while sent.load(Ordering::Relaxed) < requests * (step + 1) / (steps + 1) {
            assert!(started.elapsed() < 5 * PATIENCE, "{} of {requests}", sent.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(5));
        }
        if restarted * steps < restarts * (step + 1) {
            restarted += 1;
            let next = lab.start(&format!("gateway-{restarted}"), &["--take-over"]);
            let mut old = std::mem::replace(&mut gateway, next);
            let status = old.ended();
            assert!(status.success(), "{status}: {}", lab.log(&format!("gateway-{}", restarted - 1)));
        } else {
            let out = lab.ask(&["reload"]);
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
    while sent.load(Ordering::Relaxed) < requests {
        assert!(started.elapsed() < 5 * PATIENCE, "{} of {requests}", sent.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_millis(5));
    }
    is_over.store(true, Ordering::Relaxed);
    let failed: Vec<String> = clients.into_iter().flat_map(|c| c.join().expect("no panic")).collect();
    let all = sent.load(Ordering::Relaxed);
    println!(
        "{all} requests, {reloads} reloads, {restarts} restarts: {} failed; {:?}",
        failed.len(),
        started.elapsed()
    );
    assert_eq!(restarted, restarts);
    assert_eq!(failed, Vec::<String>::new());
    let status = lab.ask(&["--json", "status"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["pid"].as_u64(), Some(u64::from(gateway.0.id())), "the last one answers");
}

#[test]
fn a_successor_that_fails_leaves_the_old_one_serving_and_sigusr2_starts_one() {
    let lab = Lab::new("successor", &[origin()], "");
    let mut gateway = lab.start("gateway", &[]);
    let mut client = Client { address: lab.address(), keeps: true, connection: None };
    client.get().expect("served");
    // One with a broken configuration takes nothing.
    let good = std::fs::read_to_string(lab.folder.join("gateway.toml")).expect("read");
    std::fs::write(lab.folder.join("gateway.toml"), "[server]\nworkers = 0\n").expect("written");
    let refused = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["run", "--take-over", "--config"])
        .arg(lab.folder.join("gateway.toml"))
        .output()
        .expect("ran");
    assert!(!refused.status.success());
    client.get().expect("served still");
    std::fs::write(lab.folder.join("gateway.toml"), &good).expect("written");
    // One that goes away in the middle is noticed and forgotten.
    drop(std::os::unix::net::UnixStream::connect(lab.folder.join("control.handover")).expect("a socket"));
    // SIGUSR2 starts a successor, which takes over.
    let pid = rustix::process::Pid::from_raw(gateway.0.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::USR2).expect("signalled");
    let status = gateway.ended();
    assert!(status.success(), "{status}: {}", lab.log("gateway"));
    client.connection = None;
    client.get().expect("served by the successor");
    let out = lab.ask(&["--json", "status"]);
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let successor = status["pid"].as_i64().expect("a process");
    let successor = rustix::process::Pid::from_raw(successor as i32).expect("a process");
    assert_ne!(successor, pid);
    rustix::process::kill_process(successor, rustix::process::Signal::TERM).expect("signalled");
    let started = Instant::now();
    while TcpStream::connect(lab.address()).is_ok() {
        assert!(started.elapsed() < PATIENCE, "the successor doesn't end");
        std::thread::sleep(Duration::from_millis(50));
    }
}
