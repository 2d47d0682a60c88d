//! `cargo xtask fuzz`: every fuzz target of tests/fuzz for a bounded time, with cargo-fuzz.
//!
//! On a nightly toolchain where there is one; else on the workspace's own, which is told to accept the flags that only nightly has.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::{process, ui};

/// The version of cargo-fuzz.
const VERSION: &str = "0.13.2";

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// The engine has no unsafe code of its own: none is twice as fast, address checks its dependencies too
    #[arg(long, default_value = "none", value_parser = ["none", "address"])]
    sanitizer: String,
    /// Longest input in bytes; without it the fuzzer decides, and begins with short ones
    #[arg(long)]
    max_len: Option<u32>,
    /// Only these targets
    targets: Vec<String>,
}

/// Runs the verb: all targets run, then the failures are named.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let folder = paths.root.join("tests/fuzz");
    let all = targets(&folder)?;
    if let Some(unknown) = args.targets.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are: {}", all.join(", "));
    }
    let program = ensure(paths)?;
    let has_nightly = process::capture(Command::new("rustup").args(["toolchain", "list"]))
        .is_ok_and(|toolchains| toolchains.lines().any(|line| line.starts_with("nightly")));
    let chosen = if args.targets.is_empty() { all } else { args.targets.clone() };
    let mut outcomes = Vec::new();
    for name in chosen {
        ui::heading(&format!("Fuzzing {name} for {} s", args.seconds));
        let mut command = process::clean_cargo(&program);
        command
            .current_dir(&paths.root)
            .env("CARGO_TARGET_DIR", paths.target.join("fuzz"))
            .args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", &args.sanitizer, &name])
            .args(corpora(&folder, &name)?)
            .arg("--")
            .args([
                format!("-max_total_time={}", args.seconds),
                "-timeout=10".to_owned(),
                "-rss_limit_mb=2048".to_owned(),
                "-print_final_stats=1".to_owned(),
            ])
            .args(
                args.max_len.iter().flat_map(|len| [format!("-max_len={len}"), "-len_control=0".to_owned()]),
            );
        if has_nightly {
            command.env("RUSTUP_TOOLCHAIN", "nightly");
        } else {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        outcomes.push(fuzz(name, &mut command)?);
    }
    report(&outcomes);
    let failed: Vec<&str> = outcomes.iter().filter(|o| o.has_found).map(|o| o.name.as_str()).collect();
    if !failed.is_empty() {
        bail!("these targets found something: {} (see tests/fuzz/artifacts)", failed.join(", "));
    }
    Ok(())
}

/// Where a target's inputs are: what it finds is kept in the first folder, which stays on this machine; the second holds the few that
/// reach most, and is part of the project.
fn corpora(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let found = folder.join("corpus").join(name);
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let seeds = folder.join("seeds").join(name);
    Ok(if seeds.is_dir() { vec![found, seeds] } else { vec![found] })
}

/// What became of one target.
#[derive(Debug)]
struct Outcome {
    name: String,
    /// None when the fuzzer did not get as far as its figures.
    executions: Option<u64>,
    took: Duration,
    has_found: bool,
}

/// Runs a target, passes on what it says, and keeps its number of executions.
fn fuzz(name: String, command: &mut Command) -> Result<Outcome> {
    let begun = Instant::now();
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start cargo-fuzz")?;
    let mut executions = None;
    if let Some(pipe) = child.stderr.take() {
        for line in BufReader::new(pipe).split(b'\n') {
            let line = line.context("cannot read what cargo-fuzz says")?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            executions = executions_of(&line).or(executions);
        }
    }
    let status = child.wait().context("cannot wait for cargo-fuzz")?;
    Ok(Outcome { name, executions, took: begun.elapsed(), has_found: !status.success() })
}

/// The number in libFuzzer's closing figures, or in a line of its progress.
fn executions_of(line: &str) -> Option<u64> {
    let number = match line.strip_prefix("stat::number_of_executed_units:") {
        Some(rest) => rest.trim(),
        None => line.strip_prefix('#')?.split(['\t', ' ', ':']).next()?,
    };
    number.parse().ok()
}

fn report(outcomes: &[Outcome]) {
    ui::heading(&format!("{:<20} {:>14} {:>14}  result", "target", "executions", "time"));
    for outcome in outcomes {
        let executions = outcome.executions.map_or("none".to_owned(), |number| number.to_string());
        let result = if outcome.has_found { "found something" } else { "nothing found" };
        println!("{:<20} {executions:>14} {:>14}  {result}", outcome.name, ui::seconds(outcome.took));
    }
}

/// The names of tests/fuzz/targets/*.rs or tests/fuzz/fuzz_targets/*.rs.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = ["fuzz_targets", "targets"]
        .iter()
        .filter_map(|name| std::fs::read_dir(folder.join(name)).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("there are no fuzz targets in {}", folder.display());
    }
    Ok(names)
}

fn ensure(paths: &Paths) -> Result<PathBuf> {
    let own = paths.tool("cargo-fuzz");
    if let Some(found) =
        Some(own.clone()).filter(|file| file.exists()).or_else(|| process::which("cargo-fuzz"))
    {
        return Ok(found);
    }
    ui::begins(&format!("building cargo-fuzz {VERSION}"));
    let mut command = process::clean_cargo(&process::cargo());
    command
        .args(["install", "--locked", "--quiet", "--root"])
        .arg(paths.tools())
        .arg(format!("cargo-fuzz@{VERSION}"))
        .env("CARGO_TARGET_DIR", paths.tools().join("build"));
    process::quiet("cargo-fuzz", &mut command)?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read_from_figures_and_progress() {
        for (line, number) in [
            ("stat::number_of_executed_units: 5691", Some(5691)),
            ("#65536\tpulse  cov: 10 ft: 20 corp: 3/9b", Some(65_536)),
            ("#12: cov: 10", Some(12)),
            ("    #3 0x55 in main", None),
            ("stat::peak_rss_mb:              38", None),
            ("INFO: Seed: 123", None),
        ] {
            assert_eq!(executions_of(line), number, "{line}");
        }
    }
}
