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
    /// Makes a namespace of a name of its own, with loopback up.
    pub fn new() -> Result<Self> {
        Self::make(unique("gw"))
    }

    /// Makes a namespace of this name; one that a killed process left behind goes first.
    pub fn named(name: &str) -> Result<Self> {
        // Mostly there is none.
        let _ = run(Command::new("ip").args(["netns", "del", name]));
        Self::make(name.to_owned())
    }

    fn make(name: String) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!(
                "these tests make network namespaces and load XDP programs: run `cargo xtask test` as root"
            );
        }
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

    /// Makes such commands, also when the value is out of reach.
    pub fn commands(&self) -> impl Fn(&str) -> Command + Send + Sync + 'static {
        let net = format!("--net={}", self.path().display());
        move |program| {
            let mut command = Command::new("nsenter");
            command.args([&net, "--", program]);
            command
        }
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

    /// Lays a cable between an interface here and one there, each with its addresses and their prefix lengths.
    pub fn cable(&self, here: (&str, &[&str]), other: &Self, there: (&str, &[&str])) -> Result<()> {
        run(Command::new("ip")
            .args(["link", "add", here.0, "netns", &self.name, "type", "veth", "peer", "name", there.0])
            .args(["netns", &other.name]))?;
        plug(here, |program| self.command(program))?;
        plug(there, |program| other.command(program))
    }

    /// Lays a cable between an interface of the machine itself and one here; it goes away with the namespace.
    pub fn cable_to_host(&self, host: (&str, &[&str]), here: (&str, &[&str])) -> Result<()> {
        run(Command::new("ip")
            .args(["link", "add", host.0, "type", "veth", "peer", "name", here.0, "netns", &self.name]))?;
        plug(host, |program| Command::new(program))?;
        plug(here, |program| self.command(program))
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

/// Gives an interface its addresses and turns it on; `command` runs programs where it is.
fn plug((interface, addresses): (&str, &[&str]), command: impl Fn(&str) -> Command) -> Result<()> {
    for address in addresses {
        let mut ip = command("ip");
        ip.args(["address", "add", address, "dev", interface]);
        if address.contains(':') {
            // Without duplicate detection an IPv6 address can be used at once.
            ip.arg("nodad");
        }
        run(&mut ip)?;
    }
    run(command("ip").args(["link", "set", interface, "up"]))
}
