//! `cargo xtask crs`: runs go-ftw suites against the WAF, in this process or through a daemon.

mod benign;
mod check;
mod e2e;
pub mod front;
mod inprocess;
mod origin;
mod origin_server;
pub mod request;
pub mod setup;
pub mod suite;
mod target;
mod template;
mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use gateway_waf::CompileOptions;
use serde::Serialize;

use crate::build;
use crate::paths::Paths;
use suite::{Stage, Test};
use target::{Outcome, Target};

/// What to run, and against what.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a Core Rule Set (with crs-setup.conf and rules/).
    #[arg(long, default_value = "/usr/share/modsecurity-crs")]
    crs: PathBuf,
    /// Folder of go-ftw tests, searched for YAML files.
    #[arg(long)]
    tests: PathBuf,
    /// Judge this file of benign requests (as crates/waf/tests/data/benign.tsv) with the rules blocking at paranoia level 1
    /// and default thresholds, and the attacks of the tests as well; list the false positives.
    #[arg(long)]
    benign: Option<PathBuf>,
    /// Whether values are screened for all rules at once.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    prefilter: Switch,
    /// Send the tests through a daemon to a reflecting origin instead of inspecting them in this process.
    #[arg(long, conflicts_with_all = ["prefilter", "benign"])]
    e2e: bool,
    /// The daemon for --e2e; default: the release build of this workspace, made first.
    #[arg(long, value_name = "FILE", requires = "e2e")]
    gateway: Option<PathBuf>,
    /// Run only tests whose name starts with this.
    #[arg(long)]
    only: Option<String>,
    /// Write the result of every test to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

/// The result of a test, for `--json`.
#[derive(Debug, Serialize)]
struct TestResult {
    test: String,
    passed: bool,
    failures: Vec<String>,
    matched: Vec<u64>,
}

/// The result of a run, for `--json`.
#[derive(Debug, Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    tests: Vec<TestResult>,
}

/// Runs the suite; the exit code says whether all passed.
///
/// # Errors
/// The rules do not compile or the suite cannot be found. A single test that cannot be run is a failure, no error.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut tests = suite::read(&args.tests)?;
    if let Some(prefix) = &args.only {
        tests.retain(|test| test.name.starts_with(prefix.as_str()));
    }
    if let Some(file) = &args.benign {
        return benign::run(&setup::Crs::find(&args.crs)?, file, &tests);
    }
    let report = run_all(&tests, &mut *target(args)?);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    Ok(if report.failed == 0 && report.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn target(args: &Args) -> Result<Box<dyn Target>> {
    let crs = setup::Crs::find(&args.crs)?;
    if args.e2e {
        let gateway = build::release(args.gateway.as_deref(), &Paths::find())?;
        return Ok(Box::new(e2e::Daemon::start(&gateway, &crs)?));
    }
    let options = CompileOptions { prefilter: args.prefilter == Switch::On, ..CompileOptions::default() };
    let started = Instant::now();
    let ruleset = setup::suite_rules(&crs, &options)?;
    eprintln!("rules loaded in {:.0} ms", started.elapsed().as_secs_f64() * 1000.0);
    Ok(Box::new(inprocess::InProcess::new(Arc::new(ruleset))))
}

fn run_all(tests: &[Test], target: &mut dyn Target) -> Report {
    let mut report = Report { passed: 0, failed: 0, tests: Vec::with_capacity(tests.len()) };
    for test in tests {
        let result = run_test(test, target);
        if result.passed {
            report.passed += 1;
        } else {
            report.failed += 1;
            println!("{}: {}; matched {:?}", result.test, result.failures.join("; "), result.matched);
        }
        report.tests.push(result);
    }
    report
}

fn run_test(test: &Test, target: &mut dyn Target) -> TestResult {
    let mut failures = Vec::new();
    let mut matched = Vec::new();
    match &test.stages {
        Err(error) => failures.push(format!("cannot be run: {error:#}")),
        Ok(stages) => {
            for stage in stages {
                let tries = if stage.output.retry_once { 2 } else { 1 };
                for _ in 0..tries {
                    (failures, matched) = run_stage(stage, target);
                    if failures.is_empty() {
                        break;
                    }
                }
                if !failures.is_empty() {
                    break;
                }
            }
        }
    }
    TestResult { test: test.name.clone(), passed: failures.is_empty(), failures, matched }
}

fn run_stage(stage: &Stage, target: &mut dyn Target) -> (Vec<String>, Vec<u64>) {
    let mut failures = Vec::new();
    let mut matched = Vec::new();
    for raw in request::build(&stage.input) {
        let outcome = target.send(&raw).unwrap_or_else(|error| {
            failures.push(format!("cannot be run: {error:#}"));
            Outcome::default()
        });
        matched.extend(check::logged_ids(&outcome.log));
        let found = check::check(&stage.output, &outcome);
        if let (Some(reason), false) = (outcome.refused, found.is_empty()) {
            failures.push(format!("refused before any rule: {reason}"));
        }
        failures.extend(found);
    }
    (failures, matched)
}
