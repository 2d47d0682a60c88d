//! `cargo xtask vm-test`: the program on an older kernel, in a virtual machine.
//!
//! The machine boots Debian's kernel with an initial RAM disk that holds the daemon, the test programs and what they call, and
//! nothing else: no image, no network, no waiting for an init system. Emulated (TCG) unless `GATEWAY_VM_ACCEL` names
//! another accelerator: `/dev/kvm` being there does not mean that it works.

mod image;
mod kernel;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::paths::Paths;
use crate::{build, process, setup, ui};

/// How long the machine may run.
const LIMIT: Duration = Duration::from_mins(20);
/// What /init prints before it powers off.
const END: &str = "VM-TEST-END";
/// Lines that a kernel in trouble may tell about where it stands.
const TRACE: u32 = 80;

/// Arguments of `cargo xtask vm-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print everything that the machine prints
    #[arg(long)]
    verbose: bool,
    /// Only these test programs, such as `xdp_links`; without names all of them
    only: Vec<String>,
}

/// A test program to run in the machine.
#[derive(Debug)]
pub struct Program {
    /// Its name in the machine.
    pub name: String,
    /// The binary.
    pub file: PathBuf,
    /// Its arguments: which of its tests.
    pub arguments: &'static str,
}

/// Runs the verb.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let start = Instant::now();
    ui::heading("A virtual machine");
    setup::for_vm()?;
    let kernel = kernel::ensure(paths)?;
    build::ebpf(paths)?;
    let daemon = build::daemon(paths, "release")?;
    let programs = programs(paths, &args.only)?;
    let folder = paths.target.join("vm");
    let mut initrd = PathBuf::new();
    ui::step("initial RAM disk", || {
        initrd = image::build(&folder, &kernel, &daemon, &programs)?;
        let size = std::fs::metadata(&initrd)?.len() >> 20;
        Ok::<_, anyhow::Error>(format!("{} ({size} MiB)", initrd.display()))
    })?;
    ui::heading(&format!("Booting Linux {}", kernel.release));
    let outcome = boot(&kernel.image, &initrd, args.verbose)?;
    println!(
        "vm-test on Linux {}: {} passed, {} failed, in {}",
        kernel.release,
        outcome.passed,
        outcome.failed,
        ui::seconds(start.elapsed())
    );
    if outcome.failed > 0 || outcome.broken > 0 {
        bail!(
            "{} tests failed and {} programs did not end well in the virtual machine",
            outcome.failed,
            outcome.broken
        );
    }
    if !outcome.ended {
        bail!("the virtual machine did not come to its end within {}", ui::seconds(LIMIT));
    }
    if outcome.passed == 0 {
        bail!("no test ran in the virtual machine");
    }
    Ok(())
}

/// The test programs, built.
fn programs(paths: &Paths, only: &[String]) -> Result<Vec<Program>> {
    ui::begins("building the test programs");
    let mut command = build::host_cargo(paths);
    command.args(["test", "--locked", "--no-run", "--quiet", "--message-format=json"]);
    // Debian's kernel makes VLAN interfaces.
    command.args(["--features", "gateway-tests/vlan"]);
    command.args(["--package", "gateway-tests", "--package", "gateway-userspace"]).stderr(Stdio::inherit());
    let messages = process::capture(&mut command)?;
    let library =
        executable(&messages, "gateway", "lib").context("cargo built no unit tests of the daemon")?;
    let mut programs = vec![Program { name: "units".to_owned(), file: library, arguments: "kernel::" }];
    for target in test_targets(&messages).into_iter().filter(|target| is_kernel_side(target)) {
        let file =
            executable(&messages, &target, "test").with_context(|| format!("cargo built no {target}"))?;
        programs.push(Program { name: target, file, arguments: "" });
    }
    if let Some(name) = only.iter().find(|name| !programs.iter().any(|program| program.name == **name)) {
        let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
        bail!("there is no test program {name}; there are {}", names.join(", "));
    }
    programs.retain(|program| only.is_empty() || only.contains(&program.name));
    Ok(programs)
}

/// Whether a file of tests/tests is about the kernel side.
fn is_kernel_side(target: &str) -> bool {
    target == "guard" || target.starts_with("xdp")
}

/// The names of the integration tests in cargo's messages.
fn test_targets(messages: &str) -> BTreeSet<String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| message["target"]["name"].as_str().map(str::to_owned))
        .collect()
}

/// The test program of a target in cargo's messages.
fn executable(messages: &str, target: &str, kind: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let is = message["target"]["name"] == target
            && message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
            && message["profile"]["test"] == true;
        message["executable"].as_str().filter(|_| is).map(PathBuf::from)
    })
}

/// What the machine reported.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: u64,
    failed: u64,
    /// Programs that ended with another status than 0.
    broken: u64,
    /// Whether /init came to its end.
    ended: bool,
}

impl Outcome {
    /// Takes in one line of the console.
    fn line(&mut self, line: &str) {
        if line.contains("test result:") {
            self.passed += count(line, "passed");
            self.failed += count(line, "failed");
        } else if let Some(status) = line.trim().strip_prefix("VM-TEST-STATUS ") {
            self.broken += u64::from(!status.ends_with(" 0"));
        } else if line.contains(END) {
            self.ended = true;
        }
    }
}

/// The number before a word.
fn count(line: &str, word: &str) -> u64 {
    let mut before = "";
    for part in line.split([' ', ';', '.']).filter(|part| !part.is_empty()) {
        if part == word {
            return before.parse().unwrap_or(0);
        }
        before = part;
    }
    0
}

/// Boots, reads the console to the end, and never lets the machine run longer than [`LIMIT`].
fn boot(kernel: &Path, initrd: &Path, verbose: bool) -> Result<Outcome> {
    let accelerator = std::env::var("GATEWAY_VM_ACCEL").unwrap_or_else(|_| "tcg".to_owned());
    let mut child = Machine(
        Command::new("qemu-system-x86_64")
            .args(["-accel", &accelerator, "-cpu", "max", "-smp", "2", "-m", "1536"])
            .args(["-display", "none", "-no-reboot", "-nodefaults", "-serial", "stdio"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-x86_64")?,
    );
    let console = child.0.stdout.take().context("the machine has no console")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    let (mut outcome, mut trace) = (Outcome::default(), 0);
    while let Ok(line) = lines.recv_timeout(LIMIT.saturating_sub(start.elapsed())) {
        outcome.line(&line);
        if TROUBLE.iter().any(|words| line.contains(words)) {
            trace = TRACE;
        }
        if verbose || trace > 0 || worth_showing(&line) {
            println!("    {line}");
        }
        trace = trace.saturating_sub(1);
    }
    Ok(outcome)
}

/// What a kernel says before it tells where it stands.
const TROUBLE: [&str; 4] = ["Kernel panic", "BUG:", "rcu: INFO:", "blocked for more than"];

/// Whether a line of the console matters to somebody who only wants to know how it went.
fn worth_showing(line: &str) -> bool {
    ["test ", "VM-TEST", "panicked", "Error:", "error"].iter().any(|word| line.contains(word))
        || line.starts_with("    ")
}

/// Ends the machine with the value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_counted() {
        let mut outcome = Outcome::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.0s",
            "VM-TEST-STATUS kernel 0",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored",
            "VM-TEST-STATUS guard 101",
            "VM-TEST-END",
        ] {
            outcome.line(line);
        }
        assert_eq!(outcome, Outcome { passed: 15, failed: 2, broken: 1, ended: true });
    }

    #[test]
    fn test_programs_are_found_in_cargos_messages() {
        let messages = r#"not json
{"target":{"name":"guard","kind":["test"]},"profile":{"test":true},"executable":"/t/guard-1"}
{"target":{"name":"gateway","kind":["bin"]},"profile":{"test":true},"executable":"/t/gateway-2"}
{"target":{"name":"gateway","kind":["lib"]},"profile":{"test":true},"executable":"/t/gateway-3"}"#;
        for (target, kind, expected) in [
            ("guard", "test", Some("/t/guard-1")),
            ("gateway", "lib", Some("/t/gateway-3")),
            ("gateway", "example", None),
        ] {
            assert_eq!(executable(messages, target, kind), expected.map(PathBuf::from));
        }
        assert_eq!(test_targets(messages), BTreeSet::from(["guard".to_owned()]));
    }
}
