//! Attaching, restarting and dying under traffic, on veth in network namespaces. Needs root and iproute2.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gateway::kernel::{
    AttachMode, Attachment, BanReason, Expiry, InterfaceConfig, Kernel, KernelConfig, KernelError, Reason,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A veth pair: our end here, the peer in a namespace with an address of its own and a second one to be banned.
struct Pair {
    id: u32,
    here: String,
    space: String,
}

impl Pair {
    fn new() -> Result<Self> {
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

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.id as u8, host)
    }

    /// Pings from an address of the peer; how many of `count` came back.
    fn ping(&self, from: u8, count: u32) -> Result<u32> {
        let (from, to) = (self.address(from).to_string(), self.address(1).to_string());
        let count = count.to_string();
        let output = Command::new("ip")
            .args(["netns", "exec", &self.space, "ping", "-n", "-q", "-i", "0.01", "-W", "0.5", "-c", &count])
            .args(["-I", &from, &to])
            .output()
            .context("ping")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let received = text.split(", ").find_map(|part| part.strip_suffix(" received"));
        received.and_then(|n| n.parse().ok()).with_context(|| format!("ping said {text:?}"))
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

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A pin root of the test's own, gone when dropped.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/gateway-life-{name}-{}", std::process::id())))
    }

    fn open(&self) -> Result<Kernel, KernelError> {
        Kernel::open(&KernelConfig {
            pin_root: self.0.clone(),
            capacity_hosts: 10_000,
            capacity_wide: 10_000,
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

fn on(interface: &str, mode: AttachMode) -> [InterfaceConfig; 1] {
    [InterfaceConfig { name: interface.to_owned(), mode }]
}

fn attach(kernel: &Kernel, interface: &str, mode: AttachMode) -> Result<Attachment> {
    let attachments = kernel.attach(&on(interface, mode))?;
    attachments.into_iter().next().context("one attachment")
}

#[test]
fn native_where_it_goes_else_generic_with_the_reason() -> Result<()> {
    let pair = Pair::new()?;
    let root = Root::new("ladder");
    let kernel = root.open()?;
    let attached = attach(&kernel, &pair.here, AttachMode::Auto)?;
    ensure!(attached.mode == AttachMode::Native, "{attached:?}");
    ensure!(pair.ping(2, 3)? == 3, "passes what is clean");
    kernel.ban(pair.address(3).into_target(), Expiry::Never, BanReason::Manual)?;
    ensure!(pair.ping(3, 3)? == 0, "drops what is banned");
    ensure!(pair.ping(2, 3)? == 3, "and nothing else");
    ensure!(kernel.stats().packets(Reason::BanHost) >= 3);
    ensure!(gateway::kernel::attached(&root.0)?.len() == 1);
    ensure!(kernel.detach(&pair.here)? && !kernel.detach(&pair.here)?, "detached once");
    ensure!(pair.ping(3, 3)? == 3, "detached");

    let generic = attach(&kernel, &pair.here, AttachMode::Generic)?;
    ensure!(generic.mode == AttachMode::Generic, "{generic:?}");
    ensure!(pair.ping(3, 3)? == 0, "generic mode drops too");
    kernel.detach_all()?;

    ip(&format!("link set {} mtu 9000", pair.here))?;
    ip(&format!("-n {} link set peer mtu 9000", pair.space))?;
    let large = attach(&kernel, &pair.here, AttachMode::Auto)?;
    ensure!(large.reason.contains("native: the MTU is too large"), "{large:?}");
    ensure!(pair.ping(3, 3)? == 0, "jumbo frames do not open a hole: {large:?}");
    kernel.detach_all()?;

    let lo = attach(&kernel, "lo", AttachMode::Auto)?;
    kernel.detach("lo")?;
    ensure!(lo.mode == AttachMode::Generic && lo.reason.contains("the driver has no XDP"), "{lo:?}");
    let none = kernel.attach(&on("no-such-interface", AttachMode::Auto)).err().context("refused")?;
    ensure!(none.to_string().contains("\"no-such-interface\" does not exist"), "{none}");
    Ok(())
}

#[test]
fn another_program_is_not_pushed_aside() -> Result<()> {
    let pair = Pair::new()?;
    let (first, second) = (Root::new("first"), Root::new("second"));
    let theirs = first.open()?;
    attach(&theirs, &pair.here, AttachMode::Auto)?;
    let ours = second.open()?;
    let error = ours.attach(&on(&pair.here, AttachMode::Auto)).err().context("refused")?;
    ensure!(matches!(error, KernelError::InterfaceBusy { .. }), "{error}");
    Ok(())
}

#[test]
fn a_link_whose_interface_is_gone_is_replaced() -> Result<()> {
    let root = Root::new("gone");
    let kernel = root.open()?;
    let pair = Pair::new()?;
    let first = attach(&kernel, &pair.here, AttachMode::Auto)?;
    ip(&format!("link del {}", pair.here))?;
    ip(&format!("link add {} type veth peer name peer netns {}", pair.here, pair.space))?;
    ip(&format!("link set {} up", pair.here))?;
    let second = attach(&kernel, &pair.here, AttachMode::Auto)?;
    ensure!(first.index != second.index && second.mode == AttachMode::Native, "{second:?}");
    Ok(())
}

/// The daemon of the test below: another process, killed without warning.
const DAEMON: &str = "GATEWAY_XDP_LIFE_DAEMON";

#[test]
fn killed_and_restarted_under_traffic() -> Result<()> {
    if let Ok(arguments) = std::env::var(DAEMON) {
        return daemon(&arguments);
    }
    let pair = Pair::new()?;
    let root = Root::new("kill");
    let banned = pair.address(3);
    let mut child = Command::new(std::env::current_exe()?)
        .args(["killed_and_restarted_under_traffic", "--exact"])
        .env(DAEMON, format!("{} {} {banned}", root.0.display(), pair.here))
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while pair.ping(3, 1)? != 0 {
        ensure!(Instant::now() < deadline, "the daemon did not come up");
    }
    // A steady client: 1,000 datagrams a second, each counted where it arrives.
    let receiver = UdpSocket::bind((pair.address(1), 0))?;
    receiver.set_read_timeout(Some(Duration::from_millis(700)))?;
    let port = receiver.local_addr()?.port();
    let (space, from, to) = (pair.space.clone(), pair.address(2), pair.address(1));
    let sender = thread::spawn(move || steady(&space, from, (to, port)));
    let counter = thread::spawn(move || {
        let mut buffer = [0; 16];
        let mut received = 0u32;
        // The first datagram may take a while to come.
        let start = Instant::now();
        while received < 4000 && start.elapsed() < Duration::from_secs(30) {
            match receiver.recv(&mut buffer) {
                Ok(_) => received += 1,
                Err(_) if received == 0 => {}
                Err(_) => break,
            }
        }
        received
    });
    thread::sleep(Duration::from_millis(500));
    child.kill()?;
    child.wait()?;
    ensure!(pair.ping(3, 5)? == 0, "the ban holds without a daemon");
    for _ in 0..3 {
        let kernel = root.open()?;
        ensure!(kernel.adopted(), "maps adopted");
        let attachment = attach(&kernel, &pair.here, AttachMode::Auto)?;
        ensure!(attachment.reason.contains("adopted"), "{attachment:?}");
        ensure!(pair.ping(3, 3)? == 0, "the ban holds after the swap");
        ensure!(kernel.bans().len() == 1, "the ban is listed");
    }
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let received = counter.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
    ensure!(received == 4000, "{} of 4000 datagrams were lost", 4000 - received);
    Ok(())
}

/// Sends 4,000 datagrams, a millisecond apart, from a namespace.
fn steady(space: &str, from: Ipv4Addr, to: (Ipv4Addr, u16)) -> Result<()> {
    let space = std::fs::File::open(format!("/run/netns/{space}"))?;
    move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
    let socket = UdpSocket::bind((from, 0))?;
    for number in 0..4000u32 {
        socket.send_to(&number.to_be_bytes(), to)?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn daemon(arguments: &str) -> Result<()> {
    let mut words = arguments.split(' ');
    let mut word = || words.next().context("an argument");
    let (root, interface, banned) = (Root(word()?.into()), word()?, word()?.parse::<Ipv4Addr>()?);
    let kernel = root.open()?;
    kernel.ban(banned.into_target(), Expiry::Never, BanReason::Waf)?;
    attach(&kernel, interface, AttachMode::Auto)?;
    loop {
        kernel.heartbeat();
        thread::sleep(Duration::from_millis(100));
    }
}

trait IntoTarget {
    fn into_target(self) -> gateway::kernel::Target;
}

impl IntoTarget for Ipv4Addr {
    fn into_target(self) -> gateway::kernel::Target {
        std::net::IpAddr::from(self).into()
    }
}
