//! Floods of many sources through BPF_PROG_TEST_RUN: the budget for new sources, the sketch, the gate. Needs root.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use gateway::kernel::{FloodLimits, Mode, Modes, Part, Rate, Reason, SourceLimits, Target, TestProgram};
use gateway_tests::xdp::{DROP, Lab, PASS, packet};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Packets of a flood.
const FLOOD: u32 = 100_000;

fn address(text: &str) -> Result<IpAddr> {
    text.parse().context(text.to_owned())
}

/// A lab where every source is limited to far more than it sends.
fn lab(flood: &FloodLimits) -> Result<Lab> {
    let lab = Lab::new()?;
    let most = Rate { per_second: 1_000_000, burst: 10_000_000 };
    lab.kernel().set_limits(&SourceLimits { packets: Some(most), ..SourceLimits::default() }, &[])?;
    lab.kernel().set_flood(flood)?;
    Ok(lab)
}

/// Runs `count` packets and says how many passed, and how many were dropped for the reason.
fn run(lab: &Lab, program: TestProgram, frame: &[u8], count: u32, reason: Reason) -> Result<(u64, u64)> {
    let before = lab.kernel().stats();
    lab.kernel().test_run_of(program, frame, count)?;
    let after = lab.kernel().stats();
    ensure!(after.passed + after.dropped == before.passed + before.dropped + u64::from(count), "all counted");
    Ok((after.passed - before.passed, after.packets(reason) - before.packets(reason)))
}

#[test]
fn a_heavy_source_is_found_in_a_flood_of_light_ones() -> Result<()> {
    let heavy = FloodLimits { new_sources: 0, heavy: Some(1_000), ..FloodLimits::default() };
    for source in ["192.0.2.1", "2001:db8::1"] {
        let lab = lab(&heavy)?;
        let light = packet::udp_from(address("192.0.2.9")?, &[0; 32]);
        let light =
            if source.contains(':') { light } else { packet::tcp_from(address("192.0.2.9")?, packet::ACK) };
        let (passed, dropped) = run(&lab, TestProgram::Flood, &light, FLOOD, Reason::Flood)?;
        ensure!(dropped * 100 <= u64::from(FLOOD), "{dropped} of {FLOOD} light sources were dropped");
        ensure!(passed + dropped == u64::from(FLOOD), "nothing else drops");
        // A thousand a second and what the flood adds is a few hundred in a window; this is a hundred times as many.
        let frame = packet::tcp_from(address(source)?, packet::ACK);
        let (passed, dropped) = run(&lab, TestProgram::Gateway, &frame, FLOOD, Reason::Flood)?;
        ensure!(
            dropped >= u64::from(FLOOD) / 2,
            "{source}: only {dropped} of {FLOOD} dropped, {passed} passed"
        );
    }
    Ok(())
}

#[test]
fn the_sketch_sees_only_sources_without_a_cell() -> Result<()> {
    let lab = lab(&FloodLimits { new_sources: 1_000_000, heavy: Some(1), ..FloodLimits::default() })?;
    let frame = packet::tcp_from(address("192.0.2.1")?, packet::ACK);
    let (passed, dropped) = run(&lab, TestProgram::Gateway, &frame, 1_000, Reason::Flood)?;
    ensure!((passed, dropped) == (1_000, 0), "{passed} passed, {dropped} dropped");
    Ok(())
}

#[test]
fn a_flood_does_not_push_out_who_is_known() -> Result<()> {
    let lab = Lab::new()?;
    // Nothing comes back within the test.
    let few = Rate { per_second: 1, burst: 5_000 };
    lab.kernel().set_limits(&SourceLimits { packets: Some(few), ..SourceLimits::default() }, &[])?;
    lab.kernel().set_flood(&FloodLimits { new_sources: 250, ..FloodLimits::default() })?;
    let known = packet::tcp_from(address("192.0.2.1")?, packet::ACK);
    let (_, dropped) = run(&lab, TestProgram::Gateway, &known, 6_000, Reason::RatePackets)?;
    ensure!((900..=1_000).contains(&dropped), "{dropped} dropped before the flood");
    let (passed, _) = run(&lab, TestProgram::Flood, &known, FLOOD, Reason::RatePackets)?;
    ensure!(passed == u64::from(FLOOD), "sources that are not tracked pass");
    let (passed, dropped) = run(&lab, TestProgram::Gateway, &known, 1_000, Reason::RatePackets)?;
    ensure!(dropped >= 900, "after the flood {passed} passed and {dropped} were dropped");
    Ok(())
}

#[test]
fn who_is_known_is_limited_while_nobody_new_gets_a_cell() -> Result<()> {
    // The budget is spent for each CPU and jiffy: on one CPU a packet of somebody unknown spends it before each of those here.
    let mut one = CpuSet::new();
    one.set(0);
    sched_setaffinity(None, &one)?;
    let lab = Lab::new()?;
    let few = SourceLimits { packets: Some(Rate { per_second: 1, burst: 5 }), ..SourceLimits::default() };
    let free = "203.0.113.0/24".parse::<Target>()?;
    lab.kernel().set_limits(&few, &[(free, SourceLimits::default())])?;
    let flood = |new_sources| FloodLimits { new_sources, heavy: Some(1), ..FloodLimits::default() };
    lab.kernel().set_flood(&flood(1_000_000))?;
    let known: Vec<Vec<u8>> = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"]
        .iter()
        .map(|source| Ok(packet::udp_from(address(source)?, b"known")))
        .collect::<Result<_>>()?;
    for frame in &known {
        lab.kernel().test_run(frame, 20)?;
    }
    lab.kernel().set_flood(&flood(0))?;
    let unlimited = packet::udp_from(address("203.0.113.7")?, b"free");
    let mut over = 0;
    for round in 0..100_u8 {
        let unknown = packet::udp_from(address(&format!("198.51.100.{round}"))?, b"new");
        for frame in &known {
            lab.expect("somebody unknown", &unknown, PASS, Reason::Clean).or_else(|_| {
                // Four a round from one source may be more than the sketch lets one have.
                lab.expect("somebody unknown and heavy", &unknown, DROP, Reason::Flood)
            })?;
            over += u32::from(lab.kernel().test_run(frame, 1)?.action == DROP);
        }
        lab.expect("who has no limit is not for the sketch", &unlimited, PASS, Reason::Clean)?;
    }
    ensure!(over >= 380, "{over} of 400 packets over the limit were dropped");
    ensure!(lab.kernel().stats().packets(Reason::RatePackets) >= 380, "for the limit");
    Ok(())
}

#[test]
fn the_gate_lets_as_many_new_connections_in_as_it_should() -> Result<()> {
    let flood =
        FloodLimits { connections: Some(Rate { per_second: 10, burst: 200 }), ..FloodLimits::default() };
    let lab = lab(&flood)?;
    lab.kernel().set_allowlist(&["198.51.100.0/24".parse::<Target>()?], &[])?;
    let syn = packet::tcp_from(address("192.0.2.1")?, packet::SYN);
    let (passed, refused) = run(&lab, TestProgram::Flood, &syn, 10_000, Reason::SynGate)?;
    ensure!((200..=500).contains(&passed), "{passed} passed, {refused} refused");
    ensure!(passed + refused == 10_000, "nothing else drops");
    let v6 = packet::tcp_from(address("2001:db8::1")?, packet::SYN);
    let (passed, _) = run(&lab, TestProgram::Gateway, &v6, 1_000, Reason::SynGate)?;
    ensure!(passed <= 100, "IPv6 goes through the same gate: {passed} passed");
    for (name, source, flags, action, reason) in [
        ("segments of connections pass", "192.0.2.1", packet::ACK, PASS, Reason::Clean),
        ("answers pass", "192.0.2.1", packet::SYN | packet::ACK, PASS, Reason::Clean),
        ("the allowlist wins", "198.51.100.7", packet::SYN, PASS, Reason::Allowed),
    ] {
        // What the gate gets back in a tick may let one in.
        run(&lab, TestProgram::Gateway, &syn, 50, Reason::SynGate)?;
        let reasons = if reason == Reason::Allowed { vec![reason, Reason::Clean] } else { vec![reason] };
        lab.expect_one_of(name, &packet::tcp_from(address(source)?, flags), action, &reasons)?;
    }
    let udp = packet::udp_from(address("192.0.2.1")?, b"");
    lab.expect("datagrams pass", &udp, PASS, Reason::Clean)
}

#[test]
fn modes_of_the_flood_part() -> Result<()> {
    for (reason, flags, flood) in [
        (
            Reason::SynGate,
            packet::SYN,
            FloodLimits { connections: Some(Rate { per_second: 1, burst: 1 }), ..FloodLimits::default() },
        ),
        (
            Reason::Flood,
            packet::ACK,
            FloodLimits { new_sources: 0, heavy: Some(1), ..FloodLimits::default() },
        ),
    ] {
        let lab = lab(&flood)?;
        let frame = packet::tcp_from(address("192.0.2.1")?, flags);
        for (mode, drops, observes) in
            [(Mode::Observe, false, true), (Mode::Off, false, false), (Mode::Enforce, true, false)]
        {
            lab.kernel().set_modes(Modes::all(Mode::Enforce).with(Part::Flood, mode));
            let before = lab.kernel().stats();
            let (passed, dropped) = run(&lab, TestProgram::Gateway, &frame, 5_000, reason)?;
            let observed = lab.kernel().stats().observed(reason) - before.observed(reason);
            let name = format!("{} {}", reason.name(), mode.name());
            ensure!(drops == (dropped > 3_000) && (drops || passed == 5_000), "{name}: {dropped} dropped");
            ensure!(
                observes == (observed > 3_000) && (observes || observed == 0),
                "{name}: {observed} observed"
            );
        }
    }
    Ok(())
}

#[test]
fn a_port_without_a_listener_gets_no_cookie() -> Result<()> {
    let lab = lab(&FloodLimits {
        connections: Some(Rate { per_second: 1, burst: 1 }),
        cookies: vec![9..=9],
        ..FloodLimits::default()
    })?;
    let syn = packet::frame(&packet::ipv4("192.0.2.1".parse()?, 6, &packet::tcp(4_000, 9, packet::SYN)));
    run(&lab, TestProgram::Gateway, &syn, 50, Reason::SynGate)?;
    lab.expect("no listener", &syn, DROP, Reason::SynGate)
}

#[test]
fn bounds_of_the_settings() -> Result<()> {
    let lab = Lab::new()?;
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    for flood in [
        FloodLimits { new_sources: 1_000_000_001, ..FloodLimits::default() },
        FloodLimits { heavy: Some(0), ..FloodLimits::default() },
        FloodLimits { heavy: Some(400_001), ..FloodLimits::default() },
        FloodLimits { connections: rate(0, 1), ..FloodLimits::default() },
        FloodLimits { connections: rate(1, 0), ..FloodLimits::default() },
    ] {
        let error = lab.kernel().set_flood(&flood).err().context("refused")?.to_string();
        ensure!(error.contains("it must be from"), "{error}");
    }
    Ok(())
}
