//! What the service manager is told (sd_notify(3)) at the start, over a reload, and over a restart by hand-over.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::lab::{Lab, PATIENCE, Running, origin};

/// A service manager's ear.
struct Ear {
    socket: UnixDatagram,
    heard: VecDeque<String>,
}

impl Ear {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self { socket, heard: VecDeque::new() }
    }

    /// The next message that isn't the watchdog's.
    fn next(&mut self) -> String {
        let started = Instant::now();
        loop {
            if let Some(message) = self.heard.pop_front() {
                return message;
            }
            assert!(started.elapsed() < PATIENCE, "nothing is told");
            let mut buf = [0; 4096];
            let n = self.socket.recv(&mut buf).expect("a message in time");
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            if text.trim() != "WATCHDOG=1" {
                self.heard.push_back(text);
            }
        }
    }

    /// The next message must hold these assignments, a line each.
    fn hears(&mut self, expected: &[&str]) {
        let message = self.next();
        for line in expected {
            assert!(message.lines().any(|l| l.starts_with(line)), "{line} in {message:?}");
        }
    }
}

fn program(lab: &Lab, ear: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(["run", "--config"]).arg(lab.folder.join("gateway.toml")).args(more);
    command.env("NOTIFY_SOCKET", ear);
    command
}

fn signal(running: &Running, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(running.0.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, signal).expect("signalled");
}

#[test]
fn the_service_manager_follows() {
    let lab = Lab::new("notify", &[origin()], "");
    let path = lab.folder.join("notify.sock");
    let mut ear = Ear::at(&path);
    let mut first = lab.start_as("gateway-0", program(&lab, &path, &[]));
    ear.hears(&["READY=1", "STATUS="]);
    // By signal and by the command line, with a good and a bad file: each is told to be over, whatever came of it.
    signal(&first, rustix::process::Signal::HUP);
    ear.hears(&["RELOADING=1", "MONOTONIC_USEC="]);
    ear.hears(&["READY=1"]);
    let good = std::fs::read_to_string(lab.folder.join("gateway.toml")).expect("read");
    std::fs::write(lab.folder.join("gateway.toml"), "[server]\nworkers = 0\n").expect("written");
    assert!(!lab.ask(&["reload"]).status.success(), "a bad file is taken");
    ear.hears(&["RELOADING=1"]);
    ear.hears(&["READY=1"]);
    std::fs::write(lab.folder.join("gateway.toml"), good).expect("written");

    // The successor says that it serves; the old process, whose word counts, says who that is. It doesn't say that it
    // stops: that would be the service's end.
    let second = lab.start_as("gateway-1", program(&lab, &path, &["--take-over"]));
    ear.hears(&["READY=1"]);
    ear.hears(&[&format!("MAINPID={}", second.0.id())]);
    assert!(first.ended().success(), "{}", lab.log("gateway-0"));
    let mut second = second;
    signal(&second, rustix::process::Signal::TERM);
    ear.hears(&["STOPPING=1"]);
    assert!(second.ended().success(), "{}", lab.log("gateway-1"));
}

#[test]
fn the_watchdog_is_fed_from_the_runtime_that_must_not_hang() {
    let lab = Lab::new("watchdog", &[origin()], "");
    let path = lab.folder.join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut command = program(&lab, &path, &[]);
    command.env("WATCHDOG_USEC", "600000");
    let _gateway = lab.start_as("gateway", command);
    let mut fed = 0;
    while fed < 3 {
        let mut buf = [0; 4096];
        let n = socket.recv(&mut buf).expect("a message in time");
        fed += usize::from(buf[..n].starts_with(b"WATCHDOG=1"));
    }
}
