//! A Redis of the test's own.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::{text, wait_until};
use crate::netns::Netns;
use crate::scratch::Scratch;

/// A running Redis without persistence; it is killed with the value.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    address: SocketAddr,
    _folder: Scratch,
}

impl Redis {
    /// Starts on loopback in the namespace, and waits until it answers.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        Self::run(netns, port, "127.0.0.1")
    }

    /// As [`Redis::start`], on every address of the namespace.
    pub fn open(netns: &Netns, port: u16) -> Result<Self> {
        Self::run(netns, port, "0.0.0.0")
    }

    fn run(netns: &Netns, port: u16, bind: &str) -> Result<Self> {
        let folder = Scratch::new()?;
        let child = netns
            .command("redis-server")
            .args(["--port", &port.to_string(), "--bind", bind, "--save", "", "--appendonly", "no"])
            .args(["--protected-mode", "no"])
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start redis-server: `cargo xtask setup` installs it")?;
        let redis = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _folder: folder };
        wait_until("an answer of redis-server", Duration::from_secs(5), || {
            text(netns.command("redis-cli").args(["-p", &port.to_string(), "ping"])).ok()
        })?;
        Ok(redis)
    }

    /// Where it listens, in its namespace.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
