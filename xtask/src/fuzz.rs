//! `cargo xtask fuzz`: every fuzz target of tests/fuzz for a bounded time, with cargo-fuzz.
//!
//! On a nightly toolchain where there is one; else on the workspace's own, which is told to accept the flags that only nightly has.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

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
    let mut failed = Vec::new();
    for name in chosen {
        ui::heading(&format!("Fuzzing {name} for {} s", args.seconds));
        let mut command = process::clean_cargo(&program);
        command
            .current_dir(&paths.root)
            .env("CARGO_TARGET_DIR", paths.target.join("fuzz"))
            .args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", &args.sanitizer, &name, "--"])
            .args([
                format!("-max_total_time={}", args.seconds),
                "-timeout=10".to_owned(),
                "-rss_limit_mb=2048".to_owned(),
            ]);
        if has_nightly {
            command.env("RUSTUP_TOOLCHAIN", "nightly");
        } else {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        if let Err(error) = process::run(&mut command) {
            println!("{error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("these targets found something: {} (see tests/fuzz/artifacts)", failed.join(", "));
    }
    Ok(())
}

/// The names of tests/fuzz/targets/*.rs or tests/fuzz/fuzz_targets/*.rs.
fn targets(folder: &std::path::Path) -> Result<Vec<String>> {
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
