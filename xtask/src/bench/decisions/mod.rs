//! `cargo xtask bench decisions`: how fast decisions take effect, on real gateways in namespaces, with XDP on their cables.
//!
//! A drop is seen from outside: numbered datagrams of the banned address to a socket beside the gateway. The first one
//! that does not get through tells when the kernel began to drop; no counter of the gateway is believed.

mod bulk;
mod kill;
mod outage;
mod reach;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::report::{Report, Row};
use crate::build;
use crate::paths::Paths;

/// Neighbourhoods are not what is measured: every client is banned alone.
const ALONE: &str = "[bans.neighbours]\nenabled = false";

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Parts to run: node, cluster, bulk, feeds, kill, outage; none: all
    parts: Vec<String>,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Attackers whose bans are timed
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(10..=5000))]
    offenders: u16,
    /// Decisions imported at once
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=200_000))]
    decisions: u32,
    /// Entries of the feed
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    entries: u32,
    /// Times that the gateway is killed
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,
    /// Seconds that Redis is gone
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    outage: u64,
    /// The gateway to measure; default: the release build
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

const PARTS: [&str; 6] = ["node", "cluster", "bulk", "feeds", "kill", "outage"];

/// Measures and prints; the exit code says whether every goal was met.
///
/// # Errors
/// Without root, a gateway, redis-server; or when something does not happen at all.
pub fn run(args: &Args) -> Result<ExitCode> {
    for part in &args.parts {
        ensure!(PARTS.contains(&part.as_str()), "{part} is no part: {}", PARTS.join(", "));
    }
    let daemon = build::release(args.gateway.as_deref(), &Paths::find())?;
    let runs = |part: &str| {
        let runs = args.parts.is_empty() || args.parts.iter().any(|p| p == part);
        if runs {
            eprintln!("{part} ...");
        }
        runs
    };
    let mut report = Report::new("decisions");
    let met = Cell::new(true);
    let add = |report: &mut Report, case: &str, ours: f64, unit: &str, bound: f64| {
        let row = Row::within(case, ours, unit, bound);
        met.set(met.get() & row.met);
        report.add(row);
    };
    if runs("node") {
        let mut times = reach::measure(&daemon, 1, args.offenders)?.remove(0);
        add(&mut report, "deciding request to kernel drop, p99", percentile(&mut times, 99.0), "ms", 1.0);
        report.note(spread("on the node", &mut times));
    }
    if runs("cluster") {
        for (number, mut times) in reach::measure(&daemon, 3, args.offenders)?.into_iter().enumerate() {
            if number > 0 {
                let case = format!("deciding request to drop on node {}, p99", number + 1);
                add(&mut report, &case, percentile(&mut times, 99.0), "ms", 50.0);
            }
            report.note(spread(&format!("cluster of three, node {}", number + 1), &mut times));
        }
    }
    if runs("bulk") {
        let seconds = bulk::decisions(&daemon, args.decisions)?;
        let bound = f64::from(args.decisions) / 100_000.0;
        add(&mut report, &format!("{} decisions to the kernel", args.decisions), seconds, "s", bound);
    }
    if runs("feeds") {
        let mut swap = bulk::feed(&daemon, args.entries)?;
        add(&mut report, &format!("{} feed entries swapped", args.entries), swap.seconds, "s", 2.0);
        let mut row = Row::at_most(
            "request p99 while it is swapped",
            swap.during,
            "ms",
            swap.before,
            3.0,
            "p99 before",
        );
        // Two cores and one of them swapping: what is a few tenths of a millisecond is no stall.
        row.met |= swap.during < 5.0;
        met.set(met.get() & row.met);
        report.add(row);
        report.note(format!("longest request while it is swapped: {:.1} ms", swap.longest));
        let before = percentile(&mut swap.bans_before, 99.0);
        let during = percentile(&mut swap.bans_during, 99.0);
        let mut row = Row::at_most("ban p99 while it is swapped", during, "ms", before, 3.0, "p99 before");
        // As above: the swap takes one of two cores.
        row.met |= during < 5.0;
        met.set(met.get() & row.met);
        report.add(row);
        report.note(spread("order of a ban to its drop before the swap", &mut swap.bans_before));
        report.note(spread("order of a ban to its drop while it is swapped", &mut swap.bans_during));
    }
    if runs("kill") {
        let told = kill::measure(&daemon, args.kills)?;
        report.note(format!(
            "kill -9, {} times: {told} decisions were told, none is lost, kernel and ledger agree after each restart",
            args.kills
        ));
    }
    if runs("outage") {
        let seconds = outage::measure(&daemon, Duration::from_secs(args.outage))?;
        add(
            &mut report,
            &format!("three nodes agree after {} s without Redis", args.outage),
            seconds,
            "s",
            2.0,
        );
    }
    report.finish(args.json.as_deref())?;
    Ok(if met.get() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The value below which `percent` of the values lie.
fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn spread(what: &str, times: &mut [f64]) -> String {
    let [p50, p90, p99, most] = [50.0, 90.0, 99.0, 100.0].map(|p| percentile(times, p));
    format!("{what}: p50 {p50:.3} ms, p90 {p90:.3} ms, p99 {p99:.3} ms, most {most:.3} ms of {}", times.len())
}
