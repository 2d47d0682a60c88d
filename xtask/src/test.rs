//! `cargo xtask test`: the whole suite, from nothing.
//!
//! Unit tests run in cargo's usual profile; the end-to-end tests drive the release daemon, so that what they measure
//! means something.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::paths::Paths;
use crate::{build, process, setup, ui};

/// What cargo tests besides the end-to-end package: every member that runs on this machine.
const UNIT: [&str; 6] =
    ["--workspace", "--exclude", "gateway-ebpf", "--exclude", "gateway-tests", "--features"];

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the unit tests, which need no root
    #[arg(long, conflicts_with = "end_to_end")]
    unit: bool,
    /// Only the end-to-end tests
    #[arg(long)]
    end_to_end: bool,
    /// Passed on to the tests: a part of their names
    filter: Vec<String>,
}

/// Runs the verb.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let start = Instant::now();
    if !args.unit && !process::is_root() {
        bail!(
            "the end-to-end tests make network namespaces and load XDP programs, which needs root: \
             run `sudo -E env PATH=$PATH cargo xtask test`, or `cargo xtask test --unit` for the rest"
        );
    }
    ui::heading("What the tests need");
    if args.unit {
        setup::python::ensure(paths)?;
    } else {
        setup::for_tests(paths)?;
    }
    ui::heading("Building");
    build::ebpf(paths)?;
    let daemon = if args.unit { None } else { Some(build::daemon(paths, "release")?) };

    // Whoever a test leaves behind becomes a child of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut failed = Vec::new();
    if !args.end_to_end {
        ui::heading("Unit tests");
        let mut command = build::host_cargo(paths);
        command
            .args(["test", "--quiet", "--locked", "--no-fail-fast"])
            .args(UNIT)
            .arg("xtask/measure")
            .arg("--")
            .args(&args.filter);
        if process::run(&mut command).is_err() {
            failed.push("unit tests");
        }
    }
    if let Some(daemon) = daemon {
        ui::heading("End-to-end tests");
        if end_to_end(paths, &daemon, &args.filter).is_err() {
            failed.push("end-to-end tests");
        }
    }
    end_leftovers();
    if !failed.is_empty() {
        bail!("{} failed", failed.join(" and "));
    }
    println!("All tests passed in {}.", ui::seconds(start.elapsed()));
    Ok(())
}

/// Ends what the tests left running, and names it: it would hold ports and memory, and be taken for a daemon that serves.
fn end_leftovers() {
    loop {
        let id = std::process::id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children: Vec<Pid> =
            children.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect();
        if children.is_empty() {
            return;
        }
        // Their own children come here next.
        for child in children {
            let line = std::fs::read(format!("/proc/{}/cmdline", child.as_raw_nonzero())).unwrap_or_default();
            // One that has ended has none.
            if !line.is_empty() {
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                println!("A test left process {} running, which is ended: {line}", child.as_raw_nonzero());
            }
            let _ = kill_process(child, Signal::KILL);
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
    }
}

/// Whether the kernel makes VLAN interfaces: tried in a network namespace that ends with the try.
fn makes_vlans() -> bool {
    let mut command = Command::new("unshare");
    command.args(["-n", "ip", "link", "add", "link", "lo", "name", "tried", "type", "vlan", "id", "7"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The end-to-end package against `daemon`. One test at a time: they measure, and the machine may have two cores.
fn end_to_end(paths: &Paths, daemon: &PathBuf, filter: &[String]) -> Result<()> {
    let mut command = build::host_cargo(paths);
    command.args(["test", "--locked", "--no-fail-fast", "--package", "gateway-tests"]);
    if makes_vlans() {
        command.args(["--features", "vlan"]);
    } else {
        println!(
            "This kernel makes no VLAN interfaces (8021q): `cargo xtask vm-test` runs their test, xdp_vlan."
        );
    }
    command.args(["--", "--test-threads=1", "--nocapture"]).args(filter).env("GATEWAY_BIN", daemon);
    process::run(&mut command)
}
