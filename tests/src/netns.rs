//! Network namespaces and the cables between them.
//!
//! Processes enter with `nsenter --net=`, not `ip netns exec`: the latter mounts a fresh /sys over the old one and so
//! hides the BPF file system.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::run;
use crate::scratch::unique;

/// A network namespace; it goes away with the value.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with loopback up.
    pub fn new() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!(
                "these tests make network namespaces and load XDP programs: run `cargo xtask test` as root"
            );
        }
        let name = unique("gw");
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let netns = Self { name };
        run(netns.command("ip").args(["link", "set", "lo", "up"]))?;
        Ok(netns)
    }

    /// A command that runs in the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs `work` on a thread in the namespace: the sockets it opens belong to it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("namespace {} is gone", self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("cannot enter a network namespace")?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Lays a cable between an interface here and one there, each with its address and prefix length.
    pub fn cable(&self, here: (&str, &[&str]), other: &Self, there: (&str, &[&str])) -> Result<()> {
        run(Command::new("ip")
            .args(["link", "add", here.0, "netns", &self.name, "type", "veth", "peer", "name", there.0])
            .args(["netns", &other.name]))?;
        for (netns, (interface, addresses)) in [(self, here), (other, there)] {
            for address in addresses {
                let mut command = netns.command("ip");
                command.args(["address", "add", address, "dev", interface]);
                if address.contains(':') {
                    // Without duplicate detection an IPv6 address can be used at once.
                    command.arg("nodad");
                }
                run(&mut command)?;
            }
            run(netns.command("ip").args(["link", "set", interface, "up"]))?;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Interfaces and their programs go with it.
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}
