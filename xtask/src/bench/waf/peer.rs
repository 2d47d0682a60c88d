//! libmodsecurity as a child process that takes turns on command.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::cases::Case;
use crate::crs::setup::{Crs, ENGINE};

const SOURCE: &str = include_str!("peer.c");

/// The running child.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// How long it took to load the rules.
    pub load_ms: f64,
    /// Its resident memory after that.
    pub rss_mib: f64,
}

impl Peer {
    /// Compiles the driver in `work` and starts it under the rules.
    ///
    /// # Errors
    /// No C compiler, no libmodsecurity, or rules that it does not load.
    pub fn start(work: &Path, crs: &Crs, extra: &str, cases: &[Case]) -> Result<Self> {
        let (source, binary) = (work.join("peer.c"), work.join("peer"));
        if !binary.exists() {
            fs::write(&source, SOURCE)?;
            let status = Command::new("cc")
                .args(["-O2", "-o"])
                .args([&binary, &source])
                .arg("-lmodsecurity")
                .status()
                .context("cannot run cc; install gcc")?;
            if !status.success() {
                bail!("cannot compile the libmodsecurity driver; install libmodsecurity-dev");
            }
        }
        let (rules, requests) = (work.join("rules.conf"), work.join("requests"));
        let setup = crs.setup.display();
        fs::write(
            &rules,
            format!("{ENGINE}\nInclude {setup}\n{extra}\nInclude {}/*.conf\n", crs.rules.display()),
        )?;
        fs::write(&requests, encode(cases))?;
        let mut child = Command::new(&binary)
            .args([&rules, &requests])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the libmodsecurity driver")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the driver has no pipes")
        };
        let mut peer = Self { child, input, output: BufReader::new(output), load_ms: 0.0, rss_mib: 0.0 };
        let line = peer.answer().context("libmodsecurity does not load the rules")?;
        let mut words = line.split_whitespace().skip(1).filter_map(|word| word.parse::<f64>().ok());
        let (Some(micros), Some(kib)) = (words.next(), words.next()) else {
            bail!("unexpected answer {line:?}")
        };
        peer.load_ms = micros / 1e3;
        peer.rss_mib = kib / 1024.0;
        Ok(peer)
    }

    /// Nanoseconds of `runs` runs of the case.
    ///
    /// # Errors
    /// The child died.
    pub fn hot(&mut self, case: usize, runs: u32) -> Result<u64> {
        self.ask(&format!("hot {case} {runs}\n"))
    }

    /// The same with swept caches.
    ///
    /// # Errors
    /// The child died.
    pub fn cold(&mut self, case: usize, runs: u32) -> Result<u64> {
        self.ask(&format!("cold {case} {runs}\n"))
    }

    fn ask(&mut self, command: &str) -> Result<u64> {
        self.input.write_all(command.as_bytes())?;
        self.input.flush()?;
        let line = self.answer()?;
        line.trim().parse().with_context(|| format!("unexpected answer {line:?}"))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the libmodsecurity driver ended");
        }
        Ok(line)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The form that peer.c reads: counts and lengths as 32-bit little-endian numbers.
fn encode(cases: &[Case]) -> Vec<u8> {
    fn number(out: &mut Vec<u8>, value: usize) {
        out.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
    }
    fn text(out: &mut Vec<u8>, bytes: &[u8]) {
        number(out, bytes.len());
        out.extend_from_slice(bytes);
    }
    let mut out = Vec::new();
    number(&mut out, cases.len());
    for case in cases {
        number(&mut out, case.requests.len());
        for request in &case.requests {
            text(&mut out, &request.method);
            text(&mut out, &request.uri);
            text(&mut out, &request.protocol);
            number(&mut out, request.headers.len());
            for (name, value) in &request.headers {
                text(&mut out, name);
                text(&mut out, value);
            }
            text(&mut out, &request.body);
        }
    }
    out
}
