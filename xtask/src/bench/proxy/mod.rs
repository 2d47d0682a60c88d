//! `cargo xtask bench proxy`: the gateway as a plain proxy beside nginx and HAProxy, on one origin.
//!
//! nginx and HAProxy tell upstreams and clients what the gateway tells them with its defaults (forwarding fields, request
//! id, trace context, security headers): the same job is compared. An nginx that tells the least runs beside them, for
//! notes.
//!
//! Each proxy gets one worker on the first core; the origin (nginx) and the load generators share the
//! second. The proxies run at the same time and are loaded in turn, several rounds. A row shows the round whose ratio is
//! the median of all rounds' ratios: within a round the machine has much the same speed, from one to another it may not. Beside the proxies the origin is loaded directly: where a proxy comes near that,
//! the client is the ceiling and the row says nothing about the proxy.

mod load;
mod peers;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::report::{Report, Row};
use crate::build;
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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=40))]
    rounds: u32,
    /// Seconds of each round
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=30))]
    seconds: u32,
    /// Only the cases whose names hold this
    #[arg(long, value_name = "CASE")]
    only: Option<String>,
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

/// The case that is not loaded.
const IDLE: &str = "1,000 idle TLS connections";

/// Runs every case and prints the table.
pub fn run(args: &Args) -> Result<ExitCode> {
    let gateway = build::release(args.gateway.as_deref(), &Paths::find())?;
    let stage = Stage::start(&gateway).context("setting the stage")?;
    let mut report = Report::new("proxy");
    for (name, load) in CASES {
        if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        eprintln!("{name} ...");
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); stage.peers.len()];
        for _ in 0..args.rounds {
            for (peer, figures) in stage.peers.iter().zip(&mut rounds) {
                match measure(&stage, peer, load, args.seconds) {
                    Ok(figure) => figures.push(figure),
                    // A proxy that fails under a load has no figure there, and the row says so.
                    Err(error) => {
                        figures.push(Figures::default());
                        report.note(format!("{name}: {error:#}"));
                    }
                }
            }
        }
        add_rows(&mut report, name, &stage.peers, &rounds);
    }
    let with_idle = args.only.as_ref().is_none_or(|only| IDLE.contains(only.as_str()));
    for peer in stage.peers.iter().filter(|_| with_idle) {
        if peer.name == "origin" || peer.name == peers::BARE {
            continue;
        }
        let bytes = load::idle_memory(peer, 1000)?;
        report.note(format!("{IDLE}, {}: {:.1} MB resident", peer.name, bytes as f64 / 1e6));
        if peer.name == "gateway" {
            report.add(Row::within(IDLE, bytes as f64 / 1e6, "MB", 60.0));
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

fn add_rows(report: &mut Report, case: &str, peers: &[Peer], rounds: &[Vec<Figures>]) {
    let of = |name: &str| peers.iter().position(|p| p.name == name).and_then(|i| rounds.get(i));
    let Some(gateway) = of("gateway") else { return };
    let ours = Figures::median(gateway);
    for name in ["nginx", "haproxy"] {
        let Some(rounds) = of(name) else { continue };
        let (mine, theirs) = middle(gateway, rounds, |f| f.rate);
        report.add(Row::at_least(&format!("{case}: rate"), mine, "req/s", theirs, 1.0, name));
        let (mine, theirs) = middle(gateway, rounds, |f| f.cpu_micros);
        report.add(Row::at_most(&format!("{case}: CPU"), mine, "us/req", theirs, 1.0, name));
        let peer = Figures::median(rounds);
        if ours.p99_ms > 0.0 && peer.p99_ms > 0.0 {
            report.note(format!(
                "{case}: p50/p99 gateway {:.2}/{:.2} ms, {name} {:.2}/{:.2} ms",
                ours.p50_ms, ours.p99_ms, peer.p50_ms, peer.p99_ms
            ));
        }
    }
    if let Some(bare) = of(peers::BARE).map(|rounds| Figures::median(rounds)) {
        report.note(format!(
            "{case}: an nginx that adds one field and no other: {:.0} req/s, {:.1} us/req",
            bare.rate, bare.cpu_micros
        ));
    }
    if let Some(origin) = of("origin").map(|rounds| Figures::median(rounds))
        && origin.rate > 0.0
    {
        report.note(format!(
            "{case}: the client takes {:.0} req/s from the origin itself; the gateway reached {:.0}% of that",
            origin.rate,
            100.0 * ours.rate / origin.rate
        ));
    }
}

/// A figure of ours and the peer's in the round whose ratio is the median of all.
fn middle(ours: &[Figures], peer: &[Figures], of: fn(&Figures) -> f64) -> (f64, f64) {
    let mut pairs: Vec<(f64, f64)> = ours.iter().map(of).zip(peer.iter().map(of)).collect();
    let ratio = |(ours, peer): &(f64, f64)| if *peer > 0.0 { ours / peer } else { f64::MAX };
    pairs.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    pairs.get(pairs.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_that_of_the_ratios() {
        let figures = |rates: [f64; 3]| rates.map(|rate| Figures { rate, ..Figures::default() });
        // The machine is at half its speed in the second round.
        let (ours, peer) = (figures([100.0, 55.0, 120.0]), figures([110.0, 50.0, 120.0]));
        assert_eq!(middle(&ours, &peer, |f| f.rate), (120.0, 120.0));
    }
}
