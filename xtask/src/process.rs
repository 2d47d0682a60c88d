//! Child processes: run them, hear of them while they are long, and say what failed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::ui;

/// How often a quiet child's progress is reported.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Lines of a failed quiet child's output that are shown.
const TAIL_LINES: usize = 60;

/// Runs a child that prints for itself; any exit but 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let line = display(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    check(status, &line)
}

/// Runs a child and returns what it printed on standard output.
pub fn capture(command: &mut Command) -> Result<String> {
    let line = display(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a child silently, says every 20 s that it is still at it, and shows its last lines when it fails.
pub fn quiet(what: &str, command: &mut Command) -> Result<()> {
    let line = display(command);
    let (mut reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot share a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // `Command` keeps its copies of the pipe's writing end: drop them, or the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, finished) = mpsc::channel();
    let collector = std::thread::spawn(move || {
        let mut output = Vec::new();
        let read = reader.read_to_end(&mut output);
        let _ = sender.send(());
        read.map(|_| output)
    });
    while finished.recv_timeout(HEARTBEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
        ui::begins(&format!("{what}: {} so far", ui::seconds(start.elapsed())));
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    let output = collector.join().map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    if !status.success() {
        let text = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            eprintln!("    {line}");
        }
    }
    check(status, &line)
}

/// The first executable file called `name` on `PATH`.
pub fn which(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|file| executable(file))
}

/// Whether the effective user is root.
pub fn is_root() -> bool {
    // The owner of our own /proc entry is the effective user: no unsafe call for one number.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// A `cargo` command without the variables by which an outer cargo or rustup would choose the compiler.
pub fn clean_cargo(cargo: &Path) -> Command {
    let mut command = Command::new(cargo);
    for name in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTDOC",
        "CARGO",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
    ] {
        command.env_remove(name);
    }
    command
}

/// The cargo that runs us.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn check(status: ExitStatus, line: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{line}` failed ({status})")
}

fn display(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_reports_failure_with_the_command() {
        assert!(quiet("true", &mut Command::new("true")).is_ok());
        let error =
            quiet("false", Command::new("sh").args(["-c", "echo why; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("echo why"), "{error}");
    }

    #[test]
    fn capture_carries_the_reason() {
        assert_eq!(capture(Command::new("echo").arg("x")).unwrap(), "x\n");
        let error =
            capture(Command::new("sh").args(["-c", "echo reason >&2; exit 1"])).unwrap_err().to_string();
        assert!(error.contains("reason"), "{error}");
    }

    #[test]
    fn which_finds_only_executables() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-here").is_none());
    }
}
