//! Attaching, restarting and dying under traffic, on veth in network namespaces. Needs root and iproute2.

use std::{
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{AttachMode, BanReason, Expiry, KernelError, Reason};
use gateway_tests::xdp::pair::{Pair, Root, attach, host, ip, on};

#[test]
fn native_where_it_goes_else_generic_with_the_reason() -> Result<()> {
    let pair = Pair::new()?;
    let root = Root::new("ladder");
    let kernel = root.open()?;
    let attached = attach(&kernel, &pair.here, AttachMode::Auto)?;
    ensure!(attached.mode == AttachMode::Native, "{attached:?}");
    ensure!(pair.ping(2, 3)? == 3, "passes what is clean");
    kernel.ban(host(pair.address(3)), Expiry::Never, BanReason::Manual)?;
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
    let traffic = pair.steady(4000)?;
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
    traffic.all_came()
}

fn daemon(arguments: &str) -> Result<()> {
    let mut words = arguments.split(' ');
    let mut word = || words.next().context("an argument");
    let (root, interface, banned) = (Root(word()?.into()), word()?, word()?.parse::<Ipv4Addr>()?);
    let kernel = root.open()?;
    kernel.ban(host(banned), Expiry::Never, BanReason::Waf)?;
    attach(&kernel, interface, AttachMode::Auto)?;
    loop {
        kernel.heartbeat();
        thread::sleep(Duration::from_millis(100));
    }
}
