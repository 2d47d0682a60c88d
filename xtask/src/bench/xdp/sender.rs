//! The example `xdp_flood` as a process on a core of its own: floods on demand, and the end of a cable that drops all of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::Netns;

/// Packets of one flood.
pub const PACKETS: u32 = 1_000_000;

/// The process.
pub struct Sender {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Sender {
    /// Starts it in a namespace, on a core, with these arguments of its own, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn start(space: &Netns, program: &Path, core: &str, arguments: &[&str]) -> Result<Self> {
        let mut child = space
            .command("taskset")
            .args(["-c", core])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the sender of floods")?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("its output")?);
        let mut sender = Self { child, orders, answers };
        ensure!(sender.line()? == "ready", "the sender of floods did not start");
        Ok(sender)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends one flood; the seconds that it took.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn flood(&mut self) -> Result<f64> {
        self.orders.as_mut().context("its input")?.write_all(b"\n")?;
        self.line()?.parse().context("the sender of floods ended")
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Without input it removes its pins and ends.
        drop(self.orders.take());
        let _ended = self.child.wait();
    }
}
