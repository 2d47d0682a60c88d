//! Off, observe and enforce, for each part of the program on its own. Needs root.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use gateway::kernel::{
    BanReason, Expiry, FloodLimits, Mode, Modes, Part, PortPolicy, Rate, Reason, SourceLimits, Target,
};
use gateway_tests::xdp::{Lab, packet};

/// Packets of a run; of these at least so many are found fault with, as a limit lets the first in.
const RUN: u32 = 1_000;
const MOST: u64 = 900;

fn address(text: &str) -> Result<IpAddr> {
    text.parse().context(text.to_owned())
}

/// A lab in which every part has something to object to.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    let few = Some(Rate { per_second: 1, burst: 1 });
    let kernel = lab.kernel();
    kernel.ban("192.0.2.10".parse()?, Expiry::Never, BanReason::Manual)?;
    kernel.ban("2001:db8:10::/48".parse()?, Expiry::Never, BanReason::Manual)?;
    kernel.set_feed(["192.0.2.11".parse::<Target>()?, "2001:db8:11::/48".parse()?])?;
    kernel.set_ports(&PortPolicy { closed_by_default: true, ..PortPolicy::default() });
    kernel.set_limits(&SourceLimits { packets: few, ..SourceLimits::default() }, &[])?;
    kernel.set_flood(&FloodLimits { connections: few, ..FloodLimits::default() })?;
    Ok(lab)
}

#[test]
fn each_part_is_off_observes_or_enforces_on_its_own() -> Result<()> {
    let lab = lab()?;
    for (part, source, flags, reason) in [
        (Part::Bans, "192.0.2.10", packet::ACK, Reason::BanHost),
        (Part::Bans, "2001:db8:10::1", packet::ACK, Reason::BanPrefix),
        (Part::Feeds, "192.0.2.11", packet::ACK, Reason::Feed),
        (Part::Feeds, "2001:db8:11::1", packet::ACK, Reason::Feed),
        (Part::Ports, "192.0.2.12", packet::SYN, Reason::Port),
        (Part::Ports, "2001:db8:12::1", packet::SYN, Reason::Port),
        (Part::Limits, "192.0.2.13", packet::ACK, Reason::RatePackets),
        (Part::Limits, "2001:db8:13::1", packet::ACK, Reason::RatePackets),
        (Part::Flood, "192.0.2.14", packet::SYN, Reason::SynGate),
        (Part::Flood, "2001:db8:14::1", packet::SYN, Reason::SynGate),
        (Part::Malformed, "127.0.0.1", packet::ACK, Reason::BogusSource),
        (Part::Malformed, "224.0.0.251", packet::ACK, Reason::BogusSource),
        (Part::Malformed, "ff02::1", packet::ACK, Reason::BogusSource),
    ] {
        let frame = packet::tcp_from(address(source)?, flags);
        for mode in [Mode::Observe, Mode::Off, Mode::Enforce] {
            lab.kernel().set_modes(Modes::OFF.with(part, mode));
            let before = lab.kernel().stats();
            lab.kernel().test_run(&frame, RUN)?;
            let after = lab.kernel().stats();
            let name = format!("{} of {source} in {}", part.name(), mode.name());
            let dropped = after.packets(reason) - before.packets(reason);
            let observed = after.observed(reason) - before.observed(reason);
            let passed = after.passed - before.passed;
            ensure!(dropped + passed == u64::from(RUN), "{name}: {dropped} dropped, {passed} passed");
            ensure!(dropped >= if mode == Mode::Enforce { MOST } else { 0 }, "{name}: {dropped} dropped");
            ensure!(mode == Mode::Enforce || dropped == 0, "{name}: {dropped} dropped");
            ensure!(observed >= if mode == Mode::Observe { MOST } else { 0 }, "{name}: {observed} observed");
            ensure!(mode == Mode::Observe || observed == 0, "{name}: {observed} observed");
        }
    }
    Ok(())
}
