//! `cargo xtask bench proxy`: the gateway as a plain proxy beside nginx and HAProxy, on one origin.
//!
//! nginx and HAProxy tell upstreams and clients what the gateway tells them with its defaults (forwarding fields, request
//! id, trace context, security headers): the same job is compared. An nginx that tells the least runs beside them, for
//! notes.
//!
//! Each proxy gets one worker on the first core; the origin (nginx) and the load generators share the
//! second. The proxies run at the same time and are loaded in turn, several rounds; the figure of a case is
//! the median of its rounds. Beside the proxies the origin is loaded directly: where a proxy comes near that,
//! the client is the ceiling and the row says nothing about the proxy.

mod load;
mod peers;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::report::{Report, Row};
use crate::paths::Paths;
use load::{Figures, Load};
use peers::{Peer, Stage};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the rows as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each case
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Seconds of each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=30))]
    seconds: u32,
    /// The gateway to measure; default: the release build
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

/// A case: its name and what it loads.
const CASES: [(&str, Load); 7] = [
    ("small GET, h1 keep-alive", Load::Wrk { tls: false, path: "/small", connections: 32, close: false }),
    ("small GET, h1 keep-alive, TLS", Load::Wrk { tls: true, path: "/small", connections: 32, close: false }),
    ("small GET, h2, TLS", Load::H2 { path: "/small", connections: 8, streams: 16 }),
    ("new TLS connections", Load::Wrk { tls: true, path: "/small", connections: 8, close: true }),
    ("1 MiB response, h1", Load::Wrk { tls: false, path: "/large", connections: 8, close: false }),
    ("1 MiB response, TLS", Load::Wrk { tls: true, path: "/large", connections: 8, close: false }),
    ("1 MiB upload, h1", Load::Upload { connections: 8 }),
];

/// Runs every case and prints the table.
pub fn run(args: &Args) -> Result<ExitCode> {
    let gateway = args.gateway.clone().unwrap_or_else(|| Paths::find().target.join("release/gateway"));
    let stage = Stage::start(&gateway).context("setting the stage")?;
    let mut report = Report::new("proxy");
    for (name, load) in CASES {
        eprintln!("{name} ...");
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); stage.peers.len()];
        for _ in 0..args.rounds {
            for (peer, figures) in stage.peers.iter().zip(&mut rounds) {
                match measure(&stage, peer, load, args.seconds) {
                    Ok(figure) => figures.push(figure),
                    // A proxy that fails under a load has no figure there, and the row says so.
                    Err(error) => report.note(format!("{name}: {error:#}")),
                }
            }
        }
        let medians: Vec<Figures> = rounds.iter().map(|r| Figures::median(r)).collect();
        add_rows(&mut report, name, &stage.peers, &medians);
    }
    for peer in &stage.peers {
        if peer.name == "origin" || peer.name == peers::BARE {
            continue;
        }
        let bytes = load::idle_memory(peer, 1000)?;
        report.note(format!(
            "1,000 idle TLS connections, {}: {:.1} MB resident",
            peer.name,
            bytes as f64 / 1e6
        ));
        if peer.name == "gateway" {
            report.add(Row::within("1,000 idle TLS connections", bytes as f64 / 1e6, "MB", 60.0));
        }
    }
    report.finish(args.json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn measure(stage: &Stage, peer: &Peer, load: Load, seconds: u32) -> Result<Figures> {
    let before = peer.cpu_seconds()?;
    let mut figures =
        load::run(stage, peer, load, seconds).with_context(|| format!("loading {}", peer.name))?;
    figures.cpu_micros = (peer.cpu_seconds()? - before) * 1e6 / figures.requests.max(1.0);
    Ok(figures)
}

fn add_rows(report: &mut Report, case: &str, peers: &[Peer], figures: &[Figures]) {
    let of = |name: &str| peers.iter().position(|p| p.name == name).and_then(|i| figures.get(i));
    let Some(ours) = of("gateway") else { return };
    for name in ["nginx", "haproxy"] {
        let Some(peer) = of(name) else { continue };
        report.add(Row::at_least(&format!("{case}: rate"), ours.rate, "req/s", peer.rate, 1.0, name));
        report.add(Row::at_most(
            &format!("{case}: CPU"),
            ours.cpu_micros,
            "us/req",
            peer.cpu_micros,
            1.0,
            name,
        ));
        if ours.p99_ms > 0.0 && peer.p99_ms > 0.0 {
            report.note(format!(
                "{case}: p50/p99 gateway {:.2}/{:.2} ms, {name} {:.2}/{:.2} ms",
                ours.p50_ms, ours.p99_ms, peer.p50_ms, peer.p99_ms
            ));
        }
    }
    if let Some(bare) = of(peers::BARE) {
        report.note(format!(
            "{case}: an nginx that adds one field and no other: {:.0} req/s, {:.1} us/req",
            bare.rate, bare.cpu_micros
        ));
    }
    if let Some(origin) = of("origin")
        && origin.rate > 0.0
    {
        report.note(format!(
            "{case}: the client takes {:.0} req/s from the origin itself; the gateway reached {:.0}% of that",
            origin.rate,
            100.0 * ours.rate / origin.rate
        ));
    }
}
