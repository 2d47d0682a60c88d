//! Child processes with the reason of their failure, and waiting with an end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Runs a command; any exit but 0 is an error with its output.
pub fn run(command: &mut Command) -> Result<()> {
    text(command).map(|_| ())
}

/// Runs a command and returns its standard output.
pub fn text(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks every 20 ms until there is an answer; past `limit` an error says what did not come.
pub fn wait_until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("{what} did not come within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
