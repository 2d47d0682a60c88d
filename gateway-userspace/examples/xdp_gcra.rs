//! Measures how exact the limits of sources are, in the kernel and in real time: packets admitted under constant, bursty and
//! multi-CPU load against a token bucket without a grain that sees the same arrivals. The argument is how many seconds
//! (default 60). Prints one JSON object; fails when a load is off by more than one per cent.
//!
//! `cargo run --release --example xdp_gcra -- 60`, as root.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{Kernel, KernelConfig, Rate, SourceLimits};
use serde_json::json;

/// `XDP_PASS`.
const PASS: u32 = 2;
/// What each source may send.
const RATE: Rate = Rate { per_second: 2_000, burst: 500 };
/// Pause between two packets of a thread: up to three times the rate.
const GAP: Duration = Duration::from_micros(160);
/// How far an admitted count may be from the exact one.
const MOST_OFF: f64 = 0.01;

/// One load: its source, and when it sends.
struct Load {
    name: &'static str,
    source: &'static str,
    threads: usize,
    /// Sends in the first of these, is silent in the rest; no silence when they are equal.
    sends: Duration,
    of: Duration,
}

const LOADS: [Load; 3] = [
    Load {
        name: "constant",
        source: "192.0.2.1",
        threads: 1,
        sends: Duration::from_secs(1),
        of: Duration::from_secs(1),
    },
    Load {
        name: "bursty",
        source: "192.0.2.2",
        threads: 1,
        sends: Duration::from_millis(400),
        of: Duration::from_millis(1_000),
    },
    Load {
        name: "several CPUs",
        source: "192.0.2.3",
        threads: 4,
        sends: Duration::from_secs(1),
        of: Duration::from_secs(1),
    },
];

/// When each packet was sent, and how many of them were admitted.
#[derive(Default)]
struct Sent {
    at: Vec<Duration>,
    admitted: u64,
}

fn main() -> Result<()> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(60), |text| text.parse()).context("seconds")?;
    ensure!((1..=3_600).contains(&seconds), "from 1 to 3,600 seconds");
    let root = PathBuf::from(format!("/sys/fs/bpf/gateway-gcra-{}", std::process::id()));
    let config = KernelConfig { pin_root: root.clone(), ..KernelConfig::default() };
    let kernel = Kernel::open(&config).context("this needs root")?;
    let measured = measure(&kernel, Duration::from_secs(seconds));
    kernel.uninstall()?;
    let rows = measured?;
    println!("{}", json!({"seconds": seconds, "rate": RATE.per_second, "burst": RATE.burst, "loads": rows}));
    let worst = rows.iter().filter_map(|row| row["off"].as_f64()).map(f64::abs).fold(0.0, f64::max);
    ensure!(worst <= MOST_OFF, "off by {:.2} %", worst * 100.0);
    Ok(())
}

fn measure(kernel: &Kernel, lasting: Duration) -> Result<Vec<serde_json::Value>> {
    kernel.set_limits(&SourceLimits { packets: Some(RATE), ..SourceLimits::default() }, &[])?;
    let started = Instant::now();
    thread::scope(|scope| {
        let loads: Vec<_> = LOADS
            .iter()
            .map(|load| {
                let threads: Vec<_> =
                    (0..load.threads).map(|_| scope.spawn(|| send(kernel, load, started, lasting))).collect();
                (load, threads)
            })
            .collect();
        loads
            .into_iter()
            .map(|(load, threads)| {
                let mut all = Sent::default();
                for thread in threads {
                    let sent = thread.join().expect("no panic in a sender")?;
                    all.admitted += sent.admitted;
                    all.at.extend(sent.at);
                }
                all.at.sort();
                let exact = exact(&all.at);
                let off = (all.admitted as f64 - exact as f64) / exact as f64;
                Ok(json!({"load": load.name, "sent": all.at.len(), "admitted": all.admitted, "exact": exact, "off": off}))
            })
            .collect()
    })
}

fn send(kernel: &Kernel, load: &Load, started: Instant, lasting: Duration) -> Result<Sent> {
    let frame = frame(load.source.parse()?);
    let mut sent = Sent::default();
    loop {
        let at = started.elapsed();
        if at >= lasting {
            return Ok(sent);
        }
        let into = Duration::from_nanos((at.as_nanos() % load.of.as_nanos()) as u64);
        if into >= load.sends {
            thread::sleep(load.of.saturating_sub(into));
            continue;
        }
        // One packet a call: a call with more waits for a grace period of the kernel first.
        let run = kernel.test_run(&frame, 1)?;
        sent.at.push(at);
        sent.admitted += u64::from(run.action == PASS);
        thread::sleep(GAP);
    }
}

/// What a token bucket without a grain admits of these arrivals, in order.
fn exact(arrivals: &[Duration]) -> u64 {
    let (mut tokens, mut last, mut admitted) = (RATE.burst as f64, Duration::ZERO, 0);
    for at in arrivals {
        let back = at.saturating_sub(last).as_secs_f64() * RATE.per_second as f64;
        tokens = (tokens + back).min(RATE.burst as f64);
        last = *at;
        if tokens >= 1.0 {
            tokens -= 1.0;
            admitted += 1;
        }
    }
    admitted
}

/// An empty UDP datagram, untagged.
fn frame(source: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend([203, 0, 113, 1, 0x9c, 0x40, 1, 0xbb, 0, 8, 0, 0]);
    frame
}
