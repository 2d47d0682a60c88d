//! The usual scene: a gateway with its origin, a clean client and an attacker, each on a cable of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::gateway::{Gateway, Settings};
use crate::netns::Netns;
use crate::origin::Origin;
use crate::scratch::{Scratch, unique};

/// Where BPF objects are pinned.
const BPFFS: &str = "/sys/fs/bpf";

/// A client's network: which cable it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The third number of its network, 10.77.N.0/24: the client is .2, the gateway .1. The IPv6 network is fd77:N::/48
    /// with client and gateway in different /64s: bans of IPv6 cover a /64, and never the gateway's own.
    number: u8,
    /// The gateway's interface to it.
    pub interface: &'static str,
}

/// The client that does nothing wrong.
pub const CLEAN: Place = Place { number: 1, interface: "gw-clean" };
/// The client that attacks.
const ATTACKER: Place = Place { number: 2, interface: "gw-attack" };

impl Place {
    /// The gateway's address as this client sees it.
    pub fn gateway(self) -> IpAddr {
        Ipv4Addr::new(10, 77, self.number, 1).into()
    }

    /// The gateway's IPv6 address as this client sees it.
    pub fn gateway_v6(self) -> IpAddr {
        Ipv6Addr::new(0xfd77, self.number.into(), 0, 1, 0, 0, 0, 1).into()
    }

    /// The client's address.
    pub fn client(self) -> IpAddr {
        Ipv4Addr::new(10, 77, self.number, 2).into()
    }

    /// The client's IPv6 address.
    pub fn client_v6(self) -> IpAddr {
        Ipv6Addr::new(0xfd77, self.number.into(), 0, 2, 0, 0, 0, 2).into()
    }

    /// The gateway's plain HTTP listener.
    pub fn http(self) -> SocketAddr {
        SocketAddr::new(self.gateway(), Settings::HTTP_PORT)
    }

    /// The gateway's TLS listener.
    pub fn https(self) -> SocketAddr {
        SocketAddr::new(self.gateway(), Settings::HTTPS_PORT)
    }
}

/// The scene. Values are dropped in this order: the gateway's processes end before the namespaces do.
#[derive(Debug)]
pub struct Lab {
    /// The service behind the gateway.
    pub origin: Origin,
    /// Where the clean client lives.
    pub clean: Netns,
    /// Where the attacker lives.
    pub attacker: Netns,
    /// Where the gateway lives.
    pub gateway: Netns,
    /// The folder of configuration, control socket, state and logs.
    pub folder: Scratch,
    pin: PathBuf,
}

impl Lab {
    /// The attacker's place.
    pub const ATTACKER: Place = ATTACKER;

    /// Builds the scene, without a gateway running yet.
    pub fn new() -> Result<Self> {
        mount_bpffs()?;
        let gateway = Netns::new()?;
        let clean = Netns::new()?;
        let attacker = Netns::new()?;
        for (place, client) in [(CLEAN, &clean), (ATTACKER, &attacker)] {
            let [here, there] = [1, 2].map(|host| {
                [
                    format!("10.77.{}.{host}/24", place.number),
                    format!("fd77:{}:0:{host}::{host}/48", place.number),
                ]
            });
            gateway.cable(
                (place.interface, &here.each_ref().map(String::as_str)),
                client,
                ("eth0", &there.each_ref().map(String::as_str)),
            )?;
        }
        let origin = Origin::start(&gateway)?;
        Ok(Self {
            origin,
            clean,
            attacker,
            gateway,
            folder: Scratch::new()?,
            pin: Path::new(BPFFS).join(unique("gw-test")),
        })
    }

    /// The settings of a gateway in this scene: both listeners, both cables guarded.
    pub fn settings(&self) -> Settings {
        Settings::new(self.folder.path(), self.origin.address())
            .guard(&[CLEAN.interface, ATTACKER.interface], &self.pin)
    }

    /// The folder of the gateway's pins.
    pub fn folder_of_pins(&self) -> PathBuf {
        self.pin.clone()
    }

    /// Starts a gateway with these settings and waits until it is ready.
    pub fn start(&self, settings: &Settings) -> Result<Gateway> {
        Gateway::start(&self.gateway, settings)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Pins keep programs and maps alive past the namespaces.
        let _ = std::fs::remove_dir_all(&self.pin);
    }
}

/// Mounts the BPF file system where there is none yet.
pub fn mount_bpffs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        return Ok(());
    }
    run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))
}
