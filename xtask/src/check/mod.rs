//! `cargo xtask check`: what must hold before anything is run.

mod deny;
mod levels;
mod promises;
mod rooms;
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::{build, process, setup, ui};

/// Arguments of `cargo xtask check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what needs no compiler: format, levels, file lengths, tests that pages name, unsafe
    #[arg(long)]
    quick: bool,
}

/// Runs the verb: every check runs, then the failures are counted.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let start = Instant::now();
    ui::heading("Checking");
    let mut failures = Vec::new();
    let mut check = |name: &'static str, outcome: Result<String>, took| match outcome {
        Ok(detail) => ui::done(name, &detail, took),
        Err(error) => {
            ui::failed(name, took);
            println!("{error:#}");
            failures.push(name);
        }
    };
    let mut timed = |name: &'static str, work: &mut dyn FnMut() -> Result<String>| {
        let start = Instant::now();
        let outcome = work();
        check(name, outcome, start.elapsed());
    };

    let files = rust_files(&paths.root)?;
    timed("format", &mut || format(paths));
    timed("levels", &mut || levels::check(&paths.root, &files));
    timed("file lengths", &mut || rooms::lengths(&paths.root, &files));
    timed("tests that pages name", &mut || promises::check(&paths.root, &files));
    timed("unsafe code", &mut || rooms::unsafety(&paths.root, &files));
    if !args.quick {
        timed("clippy, eBPF crate", &mut || clippy_ebpf(paths));
        timed("clippy, everything else", &mut || {
            // The daemon's build script wants the object that it carries.
            build::ebpf(paths)?;
            clippy_host(paths)
        });
        timed("licences, duplicates, sources", &mut || deny::check(paths));
    }

    if failures.is_empty() {
        println!("Everything checked in {}.", ui::seconds(start.elapsed()));
        return Ok(());
    }
    bail!("{} of the checks failed: {}", failures.len(), failures.join(", "))
}

fn format(paths: &Paths) -> Result<String> {
    process::run(Command::new(process::cargo()).current_dir(&paths.root).args(["fmt", "--all", "--check"]))
        .context("`cargo fmt --all` formats")?;
    Ok("rustfmt".to_owned())
}

fn clippy_host(paths: &Paths) -> Result<String> {
    process::run(build::host_cargo(paths).args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--exclude",
        "gateway-ebpf",
        "--all-targets",
        "--features",
        "xtask/measure,gateway-tests/vlan",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok("no warnings".to_owned())
}

/// The eBPF crate: with clippy where its toolchain has one, else without a warning of the compiler.
fn clippy_ebpf(paths: &Paths) -> Result<String> {
    let tools = setup::for_build(paths)?;
    if let Some(mut command) = build::ebpf_clippy(&tools, paths) {
        process::run(command.args(["--", "-D", "warnings"]))?;
        return Ok("no warnings".to_owned());
    }
    // Cargo repeats the warnings of what it built before.
    let output = build::ebpf_command(&tools, paths, "build").output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.lines().any(|line| line.starts_with("warning")) {
        bail!("{said}");
    }
    Ok("no warnings of rustc; its toolchain has no clippy".to_owned())
}

/// The Rust files that git knows or would know, relative to `root`.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let list = process::capture(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        "*.rs",
    ]))?;
    Ok(list.lines().map(PathBuf::from).filter(|file| root.join(file).exists()).collect())
}
