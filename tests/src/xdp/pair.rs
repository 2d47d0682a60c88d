//! A cable to a namespace, and a pin root, for tests that attach the program through the library.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gateway::kernel::{AttachMode, Attachment, InterfaceConfig, Kernel, KernelConfig, KernelError};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A veth pair: our end here, the peer in a namespace with an address of its own (.2) and a second one to be banned
/// (.3).
pub struct Pair {
    id: u32,
    /// Our interface.
    pub here: String,
    /// The namespace of the other end, which is called `peer`.
    pub space: String,
}

impl Pair {
    /// Lays the cable.
    ///
    /// # Errors
    /// Without root or iproute2.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = (std::process::id() + NEXT.fetch_add(1, Relaxed) * 101) % 200 + 20;
        let pair = Self { id, here: format!("gwl{id}"), space: format!("gwl-{}-{id}", std::process::id()) };
        let (here, space) = (&pair.here, &pair.space);
        ip(&format!("netns add {space}"))?;
        ip(&format!("link add {here} type veth peer name peer netns {space}"))?;
        ip(&format!("addr add 10.77.{id}.1/24 dev {here}"))?;
        ip(&format!("link set {here} up"))?;
        for part in [
            format!("addr add 10.77.{id}.2/24 dev peer"),
            format!("addr add 10.77.{id}.3/24 dev peer"),
            "link set peer up".into(),
            "link set lo up".into(),
        ] {
            ip(&format!("-n {space} {part}"))?;
        }
        Ok(pair)
    }

    /// The address of a host on the cable: 1 is ours.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.id as u8, host)
    }

    /// Pings us from an address of the peer; how many of `count` came back.
    ///
    /// # Errors
    /// When ping does not say.
    pub fn ping(&self, from: u8, count: u32) -> Result<u32> {
        self.ping_from(self.address(from), self.address(1), count, &[])
    }

    /// As [`ping`](Self::ping), between any addresses, with further arguments of ping(8).
    ///
    /// # Errors
    /// As there.
    pub fn ping_from(&self, from: Ipv4Addr, to: Ipv4Addr, count: u32, more: &[&str]) -> Result<u32> {
        let (from, to) = (from.to_string(), to.to_string());
        let count = count.to_string();
        let output = Command::new("ip")
            .args(["netns", "exec", &self.space, "ping", "-n", "-q", "-i", "0.01", "-W", "0.5", "-c", &count])
            .args(more)
            .args(["-I", &from, &to])
            .output()
            .context("ping")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let received = text.split(", ").find_map(|part| part.strip_suffix(" received"));
        received
            .and_then(|n| n.parse().ok())
            .with_context(|| format!("ping said {text:?} {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Sends frames as they are out of the peer's end, at most 51 bytes each: longer ones would get random sources.
    ///
    /// # Errors
    /// As [`Kernel::flood`]. Where the program is not on our end in native mode, it needs `ethtool -K ... gro on`.
    pub fn send_frames(&self, kernel: &Kernel, frame: &[u8], count: u32) -> Result<()> {
        ensure!(frame.len() <= 51, "a frame of {} bytes", frame.len());
        let space = std::fs::File::open(format!("/run/netns/{}", self.space))?;
        thread::scope(|scope| {
            let sender = scope.spawn(|| -> Result<()> {
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(kernel.flood("peer", frame, count)?)
            });
            sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
        })
    }

    /// Sends numbered datagrams from the peer's own address to us, one a millisecond.
    ///
    /// # Errors
    /// When the sockets cannot be made.
    pub fn steady(&self, count: u32) -> Result<Steady> {
        let receiver = UdpSocket::bind((self.address(1), 0))?;
        receiver.set_read_timeout(Some(Duration::from_millis(700)))?;
        let port = receiver.local_addr()?.port();
        let (space, from, to) = (self.space.clone(), self.address(2), (self.address(1), port));
        let sender = thread::spawn(move || {
            let space = std::fs::File::open(format!("/run/netns/{space}"))?;
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
            let socket = UdpSocket::bind((from, 0))?;
            for number in 0..count {
                socket.send_to(&number.to_be_bytes(), to)?;
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let counter = thread::spawn(move || {
            let mut buffer = [0; 16];
            let mut received = 0u32;
            // The first datagram may take a while to come.
            let start = Instant::now();
            while received < count && start.elapsed() < Duration::from_secs(60) {
                match receiver.recv(&mut buffer) {
                    Ok(_) => received += 1,
                    Err(_) if received == 0 => {}
                    Err(_) => break,
                }
            }
            received
        });
        Ok(Steady { count, sender, counter })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for command in [format!("link del {}", self.here), format!("netns del {}", self.space)] {
            if let Err(error) = ip(&command) {
                eprintln!("{error}");
            }
        }
    }
}

/// Datagrams under way.
pub struct Steady {
    count: u32,
    sender: JoinHandle<Result<()>>,
    counter: JoinHandle<u32>,
}

impl Steady {
    /// Waits for the last, and wants every one to have come.
    ///
    /// # Errors
    /// With the number of those lost.
    pub fn all_came(self) -> Result<()> {
        self.sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let received = self.counter.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
        let count = self.count;
        ensure!(received == count, "{} of {count} datagrams were lost", count - received);
        Ok(())
    }
}

/// Runs ip(8) with arguments that hold no spaces.
///
/// # Errors
/// With what it said.
pub fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A pin root of the test's own, gone when dropped.
pub struct Root(pub PathBuf);

impl Root {
    /// A folder of this name, which is not made yet.
    pub fn new(name: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/gateway-life-{name}-{}", std::process::id())))
    }

    /// Opens the kernel side there with small tables.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn open(&self) -> Result<Kernel, KernelError> {
        self.open_with(10_000)
    }

    /// As [`open`](Self::open), with another capacity of the ban tables.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn open_with(&self, capacity: u32) -> Result<Kernel, KernelError> {
        Kernel::open(&KernelConfig {
            pin_root: self.0.clone(),
            capacity_hosts: capacity,
            capacity_wide: capacity,
            capacity_sources: 10_000,
            capacity_feed_hosts: 10_000,
            capacity_feed_wide: 10_000,
            ..KernelConfig::default()
        })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Err(error) = gateway::kernel::uninstall(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// One interface to attach to.
pub fn on(interface: &str, mode: AttachMode) -> [InterfaceConfig; 1] {
    [InterfaceConfig { name: interface.to_owned(), mode }]
}

/// Attaches to one interface.
///
/// # Errors
/// As [`Kernel::attach`].
pub fn attach(kernel: &Kernel, interface: &str, mode: AttachMode) -> Result<Attachment> {
    let attachments = kernel.attach(&on(interface, mode))?;
    attachments.into_iter().next().context("one attachment")
}

/// The target of an address.
pub fn host(address: Ipv4Addr) -> gateway::kernel::Target {
    IpAddr::from(address).into()
}
