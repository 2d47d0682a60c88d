//! `cargo xtask bench waf`: the WAF engine against libmodsecurity on the same rules and requests.
//!
//! Complete transactions on both sides: request, all rules of five phases, an empty response. The two take turns on one core, and
//! each figure is the median of the turns, in processor time of the one thread, so that a noisy machine disturbs
//! little and both alike. Debian's library is driven
//! through its C API by a small program compiled on the spot (`libmodsecurity-dev`, `cc`).

mod cases;
mod ours;
mod peer;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use gateway_tests::Scratch;
use gateway_waf::CompileOptions;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use crate::crs::setup::{self, Crs};
use cases::Case;
use ours::Engine;
use peer::Peer;
use report::{Report, Row};

/// Turns that each side takes: over a second, as a core may be slow for tenths of one.
const ROUNDS: usize = 21;
/// Runs of a turn with swept caches.
const COLD_RUNS: u32 = 12;
/// Most runs in a turn.
const MAX_RUNS: u64 = 1_000_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a Core Rule Set.
    #[arg(long, default_value = "/usr/share/modsecurity-crs")]
    crs: PathBuf,
    /// Folder of go-ftw tests, to draw the mixed set from.
    #[arg(long)]
    tests: Option<PathBuf>,
    /// Write the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure only cases whose name has this in it.
    #[arg(long)]
    only: Option<String>,
    /// Time for one turn of one side, milliseconds.
    #[arg(long, default_value_t = 25)]
    turn_ms: u64,
    /// Leave libmodsecurity out.
    #[arg(long)]
    alone: bool,
}

/// Measures and prints; the exit code says whether every goal was met.
///
/// # Errors
/// No CRS there, no libmodsecurity or C compiler, or rules that do not compile.
pub fn run(args: &Args) -> Result<ExitCode> {
    let crs = Crs::find(&args.crs)?;
    let mut cases = cases::fixed();
    if let Some(tests) = &args.tests {
        cases.push(cases::mixed(tests)?);
    }
    if let Some(only) = &args.only {
        cases.retain(|case| case.name.contains(only.as_str()));
    }
    // The other core may have other neighbours. The peer, which this starts, stays here too.
    let mut core = CpuSet::new();
    core.set(sched_getcpu());
    sched_setaffinity(None, &core).context("staying on one core")?;
    let mut report = Report::new();
    measure(args, &crs, &cases, Scratch::new()?.path(), &mut report)?;
    report.print();
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    Ok(if report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(args: &Args, crs: &Crs, cases: &[Case], work: &Path, report: &mut Report) -> Result<()> {
    let mut first_level = Vec::new();
    for level in [1u8, 4] {
        let extra = level_rules(level);
        let started = ours::cpu_nanos();
        let ruleset = setup::compile(crs, &extra, &CompileOptions::default())?;
        let load_ms = (ours::cpu_nanos() - started) as f64 / 1e6;
        let started = ours::cpu_nanos();
        ruleset.warm_up();
        let warm_up_ms = (ours::cpu_nanos() - started) as f64 / 1e6;
        let mut engine = Engine::new(ruleset);
        let memory = rss_mib()?;
        let mut peer = if args.alone { None } else { Some(Peer::start(work, crs, &extra, cases)?) };
        if level == 1 {
            let loaded = peer.as_ref().map(|p| (p.load_ms, p.rss_mib));
            report.push(Row::limit("load", load_ms, "ms", loaded.map(|l| l.0), 400.0));
            report.push(Row::limit("automata built behind it", warm_up_ms, "ms", None, f64::INFINITY));
            report.push(Row::limit("resident memory after both", memory, "MiB", loaded.map(|l| l.1), 60.0));
        }
        for (index, case) in cases.iter().enumerate() {
            let (ours, theirs) = hot(&mut engine, peer.as_mut(), case, index, args.turn_ms * 1_000_000)?;
            let name = format!("{} PL{level}", case.name);
            let goal = if level == 1 { case.goal } else { None };
            report.push(Row::ratio(&name, ours, theirs, goal));
            if level == 1 && index == 0 {
                report.push(Row::limit("benign GET complete", ours, "µs", None, 8.0));
            }
            if level == 1 {
                first_level.push(ours);
            } else {
                let name = format!("{} PL4 over PL1", case.name);
                let goal = case.goal.map_or(f64::INFINITY, |_| 4.0);
                report.push(Row::limit(&name, ours / first_level[index], "x", None, goal));
            }
            let (ours, theirs) = cold(&mut engine, peer.as_mut(), case, index)?;
            report.push(Row::ratio(&format!("{name} cold"), ours, theirs, None));
        }
    }
    Ok(())
}

/// The paranoia level under both names (CRS 4 and 3), everything inspected whatever the score.
fn level_rules(level: u8) -> String {
    format!(
        "SecRuleEngine DetectionOnly\nSecAuditEngine Off\nSecAction \"id:9001,phase:1,pass,t:none,nolog,\
         setvar:tx.blocking_paranoia_level={level},setvar:tx.detection_paranoia_level={level},\
         setvar:tx.paranoia_level={level},setvar:tx.executing_paranoia_level={level}\"\n"
    )
}

/// Medians of microseconds a run, ours and the peer's.
fn hot(
    engine: &mut Engine,
    mut peer: Option<&mut Peer>,
    case: &Case,
    index: usize,
    turn_nanos: u64,
) -> Result<(f64, Option<f64>)> {
    let probe = engine.hot(case, 20).max(1) / 20;
    let our_runs = (turn_nanos / probe.max(1)).clamp(1, MAX_RUNS) as u32;
    let their_runs = match peer.as_deref_mut() {
        Some(peer) => (turn_nanos / peer.hot(index, 1)?.max(1)).clamp(1, MAX_RUNS) as u32,
        None => 0,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(engine.hot(case, our_runs) as f64 / f64::from(our_runs) / 1e3);
        if let Some(peer) = peer.as_deref_mut() {
            theirs.push(peer.hot(index, their_runs)? as f64 / f64::from(their_runs) / 1e3);
        }
    }
    let runs = case.requests.len() as f64;
    Ok((median(&mut ours) / runs, (!theirs.is_empty()).then(|| median(&mut theirs) / runs)))
}

/// The same with caches swept before each run.
fn cold(
    engine: &mut Engine,
    peer: Option<&mut Peer>,
    case: &Case,
    index: usize,
) -> Result<(f64, Option<f64>)> {
    let runs = case.requests.len() as f64;
    let per_run = |nanos: u64| nanos as f64 / f64::from(COLD_RUNS) / 1e3 / runs;
    let ours = per_run(engine.cold(case, COLD_RUNS));
    let theirs = peer.map(|peer| peer.cold(index, COLD_RUNS)).transpose()?.map(per_run);
    Ok((ours, theirs))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// VmRSS of this process.
fn rss_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let Some(kib) = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok())
    else {
        bail!("/proc/self/status has no VmRSS")
    };
    Ok(kib / 1024.0)
}
