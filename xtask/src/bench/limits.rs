//! `cargo xtask bench limits`: rate limits beside governor, plain INCR and EXPIRE, and an exact log.
//!
//! What is measured stands in gateway-userspace/benches/limits: it needs the daemon as a library, which xtask must not (xtask
//! builds the object that the daemon includes). It writes its rows to a file, and this makes a report of them.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::Scratch;
use serde::Deserialize;

use super::report::{Report, Row};
use crate::build;
use crate::paths::Paths;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Parts to run: local, flood, redis, accuracy; none: all.
    parts: Vec<String>,
    /// Write the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Measured {
    rows: Vec<MeasuredRow>,
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct MeasuredRow {
    case: String,
    ours: f64,
    unit: String,
    peer: f64,
    peer_name: String,
    better: String,
    goal: f64,
}

/// Measures and prints; the exit code says whether every goal was met.
///
/// # Errors
/// The bench does not build or run; redis-server is not installed.
pub fn run(args: &Args) -> Result<ExitCode> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("rows.json");
    build::ebpf(&Paths::find())?;
    let status = Command::new(env!("CARGO"))
        .args(["bench", "--package", "gateway-userspace", "--bench", "limits", "--"])
        .args(&args.parts)
        .arg("--rows")
        .arg(&file)
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the bench failed: see above");
    let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let measured: Measured = serde_json::from_slice(&text).context("the bench wrote what is not its rows")?;
    let mut report = Report::new("limits");
    let mut met = true;
    for row in measured.rows {
        let row = match row.better.as_str() {
            "more" => Row::at_least(&row.case, row.ours, &row.unit, row.peer, row.goal, &row.peer_name),
            "less" => Row::at_most(&row.case, row.ours, &row.unit, row.peer, row.goal, &row.peer_name),
            _ => Row::within(&row.case, row.ours, &row.unit, row.peer),
        };
        met &= row.met;
        report.add(row);
    }
    for note in measured.notes {
        report.note(note);
    }
    report.finish(args.json.as_deref())?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
