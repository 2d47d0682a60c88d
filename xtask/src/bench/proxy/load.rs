//! The load generators: wrk, h2load, and a holder of idle connections.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::peers::{CLIENT_CORE, Peer, Stage};

/// What to load with.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// wrk: HTTP/1.1; with `close` a new connection for each request.
    Wrk { tls: bool, path: &'static str, connections: u32, close: bool },
    /// h2load: HTTP/2 over TLS.
    H2 { path: &'static str, connections: u32, streams: u32 },
    /// wrk: POST of 1 MiB.
    Upload { connections: u32 },
}

/// What one round gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Requests a second.
    pub rate: f64,
    /// Requests in all.
    pub requests: f64,
    /// Median latency; 0 where the generator does not tell.
    pub p50_ms: f64,
    /// 99th percentile of the latency; 0 where the generator does not tell.
    pub p99_ms: f64,
    /// CPU time of the server for each request.
    pub cpu_micros: f64,
}

impl Figures {
    /// The median of each figure over the rounds.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |pick: fn(&Self) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(0.0)
        };
        Self {
            rate: of(|f| f.rate),
            requests: of(|f| f.requests),
            p50_ms: of(|f| f.p50_ms),
            p99_ms: of(|f| f.p99_ms),
            cpu_micros: of(|f| f.cpu_micros),
        }
    }
}

/// Loads `peer` for `seconds`.
pub fn run(stage: &Stage, peer: &Peer, load: Load, seconds: u32) -> Result<Figures> {
    let url = |tls: bool, path: &str| {
        let (scheme, port) = if tls { ("https", peer.tls) } else { ("http", peer.plain) };
        format!("{scheme}://127.0.0.1:{port}{path}")
    };
    match load {
        Load::Wrk { tls, path, connections, close } => {
            let mut extra = Vec::new();
            if close {
                extra.extend(["-H".to_owned(), "Connection: close".to_owned()]);
            }
            wrk(&url(tls, path), connections, seconds, &extra)
        }
        Load::Upload { connections } => {
            let script = stage.folder().join("upload.lua");
            fs::write(&script, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", 1048576)\n")?;
            let extra = ["-s".to_owned(), script.display().to_string()];
            wrk(&url(false, "/upload"), connections, seconds, &extra)
        }
        Load::H2 { path, connections, streams } => h2load(&url(true, path), connections, streams, seconds),
    }
}

fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", CLIENT_CORE, program]).stdin(Stdio::null());
    command
}

fn output(command: &mut Command, what: &str) -> Result<String> {
    let out = command.output().with_context(|| format!("running {what} (Debian package of that name)"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!("{what} failed: {text}{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(text)
}

fn wrk(url: &str, connections: u32, seconds: u32, extra: &[String]) -> Result<Figures> {
    let text = output(
        pinned("wrk")
            .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--latency"])
            .args(extra)
            .arg(url),
        "wrk",
    )?;
    if let Some(line) = text.lines().find(|l| l.contains("Non-2xx") || l.contains("Socket errors")) {
        // wrk counts a closed connection as a read error where the peer closes after each answer as asked.
        if !(extra.iter().any(|e| e == "Connection: close") && line.contains("timeout 0")) {
            bail!("{url}: {}", line.trim());
        }
    }
    let after = |label: &str| {
        text.lines().find_map(|l| l.trim().strip_prefix(label)).map(|rest| rest.trim().to_owned())
    };
    let requests = text
        .lines()
        .find_map(|l| l.trim().split_once(" requests in ").and_then(|(n, _)| n.parse::<f64>().ok()))
        .unwrap_or(0.0);
    let rate = after("Requests/sec:").and_then(|r| r.parse().ok()).context("wrk printed no rate")?;
    Ok(Figures {
        rate,
        requests,
        p50_ms: after("50%").map_or(0.0, |t| milliseconds(&t)),
        p99_ms: after("99%").map_or(0.0, |t| milliseconds(&t)),
        cpu_micros: 0.0,
    })
}

fn h2load(url: &str, connections: u32, streams: u32, seconds: u32) -> Result<Figures> {
    let text = output(
        pinned("h2load").args([
            "-t1",
            &format!("-c{connections}"),
            &format!("-m{streams}"),
            &format!("-D{seconds}"),
            url,
        ]),
        "h2load",
    )?;
    let finished = text.lines().find(|l| l.starts_with("finished in")).context("h2load printed no rate")?;
    let rate = finished
        .split(", ")
        .find_map(|part| part.strip_suffix(" req/s").and_then(|n| n.parse::<f64>().ok()))
        .context("h2load printed no rate")?;
    let counts = text.lines().find(|l| l.starts_with("status codes:")).unwrap_or("");
    let requests = counts
        .split([' ', ','])
        .find_map(|word| word.parse::<f64>().ok())
        .context("h2load printed no status codes")?;
    if !counts.contains(" 0 3xx, 0 4xx, 0 5xx") {
        bail!("{url}: {counts}");
    }
    Ok(Figures { rate, requests, ..Figures::default() })
}

/// `1.23ms`, `456.00us`, `1.02s` in milliseconds.
fn milliseconds(text: &str) -> f64 {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(number) = text.strip_suffix(unit).and_then(|n| n.parse::<f64>().ok()) {
            return number * factor;
        }
    }
    0.0
}

/// Holds `count` TLS connections open, each after one request, and reads the server's memory.
pub fn idle_memory(peer: &Peer, count: u32) -> Result<u64> {
    let program = format!(
        "import socket,ssl,sys\n\
         c=ssl.create_default_context();c.check_hostname=False;c.verify_mode=ssl.CERT_NONE\n\
         held=[]\n\
         for i in range({count}):\n\
         \x20s=c.wrap_socket(socket.create_connection(('127.0.0.1',{}),timeout=10),server_hostname='localhost')\n\
         \x20s.sendall(b'GET /small HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n\
         \x20assert s.recv(4096).startswith(b'HTTP/1.1 200'),'no answer'\n\
         \x20held.append(s)\n\
         print('held',flush=True)\n\
         sys.stdin.read()\n",
        peer.tls
    );
    let mut child = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("running python3")?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
    }
    std::thread::sleep(Duration::from_millis(500));
    let bytes = peer.resident_bytes();
    drop(child.stdin.take());
    child.wait()?;
    if line.trim() != "held" {
        bail!("{}: {count} connections could not be held", peer.name);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, expected) in [("1.50ms", 1.5), ("250.00us", 0.25), ("1.02s", 1020.0), ("x", 0.0)] {
            assert!((milliseconds(text) - expected).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn medians() {
        let f = |rate| Figures { rate, ..Figures::default() };
        assert!((Figures::median(&[f(3.0), f(1.0), f(2.0)]).rate - 2.0).abs() < 1e-9);
    }
}
