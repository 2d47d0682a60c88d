//! `cargo xtask bench xdp`: nanoseconds a packet in the kernel, as ratios to an empty program in the same run.
//!
//! The measuring itself is the example `xdp_bench` of gateway-userspace, which holds the system calls: all programs take
//! turns in one process through BPF_PROG_TEST_RUN. xdp-filter's own object from Debian's xdp-tools is loaded by bpftool
//! and pinned, and takes its turns among the others.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::report::{Report, Row};
use crate::build;
use crate::paths::Paths;

mod janitor;
mod live;
mod peers;
mod sender;

use janitor::Janitor;
use peers::Peer;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Leave xdp-filter out.
    #[arg(long)]
    alone: bool,
    /// Leave the live frames out.
    #[arg(long, conflicts_with = "live_only")]
    no_live: bool,
    /// Only the live frames.
    #[arg(long)]
    live_only: bool,
    /// The daemon for the live frames; without it the release build of this workspace.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// The example `xdp_flood`, already built; without it, it is built in the release profile.
    #[arg(long, value_name = "FILE")]
    sender: Option<PathBuf>,
    /// Turns of each mode with live frames.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Slices of a second of each kind, in turns, in each turn of enforcing; the modes without a goal have one.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Requests a second of the good client.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

/// What the example prints.
#[derive(Debug, Deserialize)]
struct Output {
    cases: Vec<Case>,
    figures: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct Case {
    case: String,
    /// Median.
    ns: f64,
    min_ns: f64,
    ratio: f64,
}

/// Goals for the ratio to the empty program, by case.
const GOALS: &[(&str, f64)] = &[
    ("clean v4, empty maps", 1.8),
    ("clean v6, empty maps", 2.2),
    ("clean v4, 1M+1M bans", 1.8),
    ("clean v6, 1M+1M bans", 2.2),
    ("clean v4, bans and limits", 1.8),
    ("clean v6, bans and limits", 2.2),
    ("clean v4, all checks", 1.8),
    ("clean v6, all checks", 2.2),
    ("clean v4 SYN, all checks", 1.8),
    ("banned v4", 1.5),
    ("banned v6", 1.8),
    ("banned v4 prefix", 1.5),
    ("banned v6 prefix", 1.8),
    ("feed v4", 1.8),
    ("over the limit", 2.2),
    ("flood of random sources, bans", 4.0),
    ("flood of random sources, all checks", 4.0),
];

/// Bounds for single figures.
const BOUNDS: &[(&str, &str, f64)] = &[
    ("load_1m_v4_ms", "ms", 100.0),
    ("load_1m_v6_ms", "ms", 100.0),
    ("feed_swap_ms", "ms", 2_000.0),
    ("feed_swap_beside_packets_ms", "ms", 2_000.0),
    ("passed_during_swaps", "packets", 0.0),
];

/// The maps of what has a budget.
const MEMORY: &[(&str, &[&str])] = &[
    ("bans (1M v4 and 1M v6 hold)", &["HOSTS", "HOST_HITS", "WIDE", "WIDE_HITS", "MARKS4", "MARKS6"]),
    ("feeds (two generations)", &["FEED_HOSTS", "FEED_WIDE", "FEED_MARKS4", "FEED_MARKS6"]),
    ("limits", &["CELLS", "LIMITS"]),
];

/// Measures and prints; the exit code says whether every goal was met.
///
/// # Errors
/// Without root, without the compiled object, or when the peer does not load.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut report = Report::new("xdp");
    let mut met = true;
    // Dropped last: it takes away what a kill or a failure leaves.
    let mut janitor = Janitor::start()?;
    if !args.live_only {
        met &= kernel(args, &mut report, &mut janitor)?;
    }
    if !args.no_live {
        let gateway = build::release(args.gateway.as_deref(), &Paths::find())?;
        let plan = live::Plan {
            gateway: &gateway,
            sender: &args.sender.clone().map_or_else(|| example("xdp_flood"), Ok)?,
            rounds: args.rounds,
            seconds: args.seconds,
            rate: args.rate,
        };
        met &= live::run(&plan, &mut report, &mut janitor)?;
    }
    report.finish(args.json.as_deref())?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every case of BPF_PROG_TEST_RUN, and the figures of loading; true when all goals were met.
fn kernel(args: &Args, report: &mut Report, janitor: &mut Janitor) -> Result<bool> {
    let program = example("xdp_bench")?;
    let peers = if args.alone { Vec::new() } else { Peer::load_all()? };
    let output = measure(&program, &peers, janitor)?;
    drop(peers);
    let mut met = true;
    for (name, goal) in GOALS {
        let case = output.cases.iter().find(|case| case.case == *name);
        let case = case.with_context(|| format!("the measurement has no case {name:?}"))?;
        // The ratio is the median over rounds (a flood's without its generator), so the peer's figure follows from it.
        let row = Row::at_most(name, case.ns, "ns", case.ns / case.ratio, *goal, "empty program");
        met &= row.met;
        report.add(row);
    }
    for (name, unit, bound) in BOUNDS {
        let value = output.figures.get(*name).with_context(|| format!("no figure {name}"))?;
        let row = Row::within(name, *value, unit, *bound);
        met &= row.met;
        report.add(row);
    }
    for case in output.cases.iter().filter(|case| !GOALS.iter().any(|(name, _)| *name == case.case)) {
        report.note(format!(
            "{}: median {:.0} ns, least {:.0} ns, {:.2} of the empty program",
            case.case, case.ns, case.min_ns, case.ratio
        ));
    }
    let passed = output.figures.get("passed_during_swaps").context("no figure passed_during_swaps")?;
    met &= *passed == 0.0;
    report.note(format!("packets of members that passed while the feed was swapped (goal 0): {passed}"));
    for (what, maps) in MEMORY {
        let bytes: f64 = maps.iter().filter_map(|map| output.figures.get(&format!("memory_{map}"))).sum();
        report.note(format!("kernel memory of {what}: {:.1} MiB", bytes / f64::from(1 << 20)));
    }
    let least: Vec<String> =
        output.cases.iter().map(|case| format!("{} {:.0}", case.case, case.min_ns)).collect();
    report.note(format!("least ns of any round: {}", least.join("; ")));
    let memory: f64 =
        output.figures.iter().filter(|(name, _)| name.starts_with("memory_")).map(|(_, bytes)| bytes).sum();
    report.note(format!("kernel memory of all maps: {:.1} MiB", memory / f64::from(1 << 20)));
    for name in
        ["verified_instructions", "feed_entries", "sweep_2m_ms", "feed_swaps_beside", "packets_beside"]
    {
        if let Some(value) = output.figures.get(name) {
            report.note(format!("{name}: {value:.0}"));
        }
    }
    Ok(met)
}

/// Builds an example of gateway-userspace as it ships, with the eBPF object as it is now.
fn example(name: &str) -> Result<PathBuf> {
    build::ebpf(&Paths::find())?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--release", "--package", "gateway-userspace", "--example", name]);
    let built = command.status().with_context(|| format!("building the example {name}"))?;
    ensure!(built.success(), "the example {name} does not build");
    Ok(Paths::find().target.join("release/examples").join(name))
}

fn measure(program: &Path, peers: &[Peer], janitor: &mut Janitor) -> Result<Output> {
    let mut command = Command::new(program);
    for peer in peers {
        command.arg("--peer").arg(format!("{}={}", peer.name, peer.pin.display()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    janitor.watch(child.id())?;
    let output = child.wait_with_output().context("waiting for the example xdp_bench")?;
    ensure!(output.status.success(), "the measurement failed; see above");
    serde_json::from_slice(&output.stdout).context("reading what the example xdp_bench printed")
}
