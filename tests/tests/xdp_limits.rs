//! Limits for each source, measured in real time through BPF_PROG_TEST_RUN. Needs root.

use std::{
    net::IpAddr,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{
    BanReason, Bar, Expiry, FloodLimits, Mode, Modes, Part, PortPolicy, Rate, Reason, SourceLimits, Target,
};
use gateway_tests::xdp::{DROP, Lab, PASS, packet};

fn packets(per_second: u64, burst: u64) -> SourceLimits {
    SourceLimits { packets: Some(Rate { per_second, burst }), ..SourceLimits::default() }
}

/// Limits that bar a source for so long after 20 violations.
fn barring(lasting: Duration) -> SourceLimits {
    let bar = Bar { violations: 20, within: Duration::from_secs(10), lasting };
    SourceLimits { bar: Some(bar), ..packets(1_000, 5) }
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().context(text.to_owned())
}

/// One packet that was offered: when, in seconds since the start, and whether it passed.
type Offer = (f64, bool);

/// Sends as fast as it goes for a while from `threads` threads; every packet, in order of time.
fn load(lab: &Lab, frame: &[u8], threads: usize, lasting: Duration) -> Result<Vec<Offer>> {
    let started = Instant::now();
    let sender = || -> Result<Vec<Offer>> {
        let mut offers = Vec::new();
        let mut before = started.elapsed();
        while before < lasting {
            // One packet a call: a call with more waits for a grace period of the kernel first.
            let passed = lab.kernel().test_run(frame, 1)?.action == PASS;
            let after = started.elapsed();
            offers.push(((before + after).as_secs_f64() / 2.0, passed));
            before = after;
        }
        Ok(offers)
    };
    let mut offers = thread::scope(|scope| {
        let senders: Vec<_> = (0..threads).map(|_| scope.spawn(sender)).collect();
        senders.into_iter().try_fold(Vec::new(), |mut all, sender| {
            all.extend(sender.join().expect("no panic in a sender")?);
            Ok::<_, anyhow::Error>(all)
        })
    })?;
    offers.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(offers)
}

/// How many of the packets an exact token bucket lets through, given when they came. The load need not be steady: what a
/// pause of the machine costs, it costs here too.
fn exact(offers: &[Offer], rate: Rate, cost: f64) -> f64 {
    let (per_second, burst) = (rate.per_second as f64, rate.burst as f64);
    let (mut tokens, mut last, mut passed) = (burst, 0.0, 0.0);
    for &(at, _) in offers {
        tokens = f64::min(burst, tokens + (at - last) * per_second);
        last = at;
        if tokens >= cost {
            tokens -= cost;
            passed += 1.0;
        }
    }
    passed
}

#[test]
fn rates_are_exact_within_one_per_cent() -> Result<()> {
    let lab = Lab::new()?;
    let syn = packet::tcp_from(address("192.0.2.1")?, packet::SYN);
    let v6 = packet::udp_from(address("2001:db8::1")?, &[0; 400]);
    // Limits far below what this machine can offer, so that most packets are refused.
    let offered = load(&lab, &syn, 1, Duration::from_millis(500))?.len() as u64 * 2;
    let rate = |per_second: u64, burst: u64, cost: u64| {
        let per_second = per_second.min(offered / 4) * cost;
        Some(Rate { per_second, burst: burst.min(per_second / cost / 3) * cost })
    };
    let none = SourceLimits::default();
    let size = v6.len() as u64;
    let rows = [
        ("packets", SourceLimits { packets: rate(3_000, 1_000, 1), ..none }, &syn, 1, 1),
        ("packets, two CPUs", SourceLimits { packets: rate(4_000, 1_500, 1), ..none }, &syn, 2, 1),
        ("connections", SourceLimits { connections: rate(1_000, 300, 1), ..none }, &syn, 1, 1),
        ("bytes", SourceLimits { bytes: rate(2_000, 600, size), ..none }, &v6, 2, size),
    ];
    for (name, limits, frame, threads, cost) in rows {
        lab.kernel().set_limits(&limits, &[])?;
        // Whatever the row before has used up comes back.
        thread::sleep(Duration::from_millis(600));
        let limit = limits.packets.or(limits.bytes).or(limits.connections).context("a limit")?;
        let offers = load(&lab, frame, threads, Duration::from_secs(3))?;
        let passed = offers.iter().filter(|offer| offer.1).count() as f64;
        let exact = exact(&offers, limit, cost as f64);
        // The kernel's tick is at most 10 ms.
        let tick = limit.per_second as f64 * 0.01 / cost as f64 + 1.0;
        let said = format!("{name}: {passed} of {} passed, exact is {exact}", offers.len());
        println!("{said}");
        ensure!(passed < offers.len() as f64, "{said}: the limit was never reached");
        ensure!((passed - exact).abs() <= exact * 0.01 + tick, "{said}");
    }
    Ok(())
}

#[test]
fn a_source_that_two_cpus_meet_at_once_has_one_burst() -> Result<()> {
    const BURST: u64 = 20;
    let lab = Lab::new()?;
    lab.kernel().set_limits(&packets(1, BURST), &[])?;
    for source in 0..500_u16 {
        let from = format!("2001:db8:{source:x}::1");
        let frame = packet::udp_from(address(&from)?, b"first");
        let start = Barrier::new(2);
        let sender = || -> Result<u64> {
            start.wait();
            (0..BURST + 5).try_fold(0, |passed, _| {
                Ok(passed + u64::from(lab.kernel().test_run(&frame, 1)?.action == PASS))
            })
        };
        let passed = thread::scope(|scope| {
            let other = scope.spawn(sender);
            Ok::<_, anyhow::Error>(sender()? + other.join().expect("no panic in a sender")?)
        })?;
        // One more may come in at a change of the second, and one by a lost exchange on each CPU.
        ensure!((BURST..=BURST + 3).contains(&passed), "{from}: {passed} of a burst of {BURST}");
    }
    Ok(())
}

#[test]
fn each_source_has_its_own_and_prefixes_may_have_others() -> Result<()> {
    let lab = Lab::new()?;
    let target = |text: &str| text.parse::<Target>();
    lab.kernel().set_allowlist(&[target("192.0.2.128/25")?], &[])?;
    lab.kernel().set_limits(
        &packets(1, 3),
        &[
            (target("198.51.100.0/24")?, packets(1, 10)),
            (target("198.51.100.64/26")?, SourceLimits::default()),
            (target("2001:db8:9::/48")?, packets(1, 10)),
        ],
    )?;
    // Sources, and how many of 50 packets at once may pass; the clock adds at most one.
    for (source, least, most) in [
        ("192.0.2.1", 3, 4),
        ("192.0.2.2", 3, 4),
        ("192.0.2.200", 50, 50),
        ("198.51.100.1", 10, 11),
        ("198.51.100.65", 50, 50),
        ("2001:db8:1::1", 3, 4),
        ("2001:db8:1::2", 0, 1),
        ("2001:db8:1:1::1", 3, 4),
        ("2001:db8:9::1", 10, 11),
    ] {
        let before = lab.kernel().stats().passed;
        lab.kernel().test_run(&packet::udp_from(address(source)?, b""), 50)?;
        let passed = lab.kernel().stats().passed - before;
        ensure!((least..=most).contains(&passed), "{source}: {passed} passed, not {least} to {most}");
    }
    Ok(())
}

#[test]
fn a_source_that_goes_on_and_on_is_barred() -> Result<()> {
    let lab = Lab::new()?;
    let limits = barring(Duration::from_millis(1_500));
    lab.kernel().set_limits(&limits, &[])?;
    let frame = packet::udp_from(address("192.0.2.1")?, b"");
    let other = packet::udp_from(address("192.0.2.2")?, b"");
    lab.kernel().test_run(&frame, 200)?;
    lab.expect("barred", &frame, DROP, Reason::Penalty)?;
    thread::sleep(Duration::from_millis(300));
    lab.expect("still barred, though the limit is free again", &frame, DROP, Reason::Penalty)?;
    lab.expect("nobody else is", &other, PASS, Reason::Clean)?;
    thread::sleep(Duration::from_millis(1_400));
    lab.expect("free", &frame, PASS, Reason::Clean)
}

#[test]
fn what_was_spent_long_ago_is_not_spent_again() -> Result<()> {
    // Limiter time is a circle of 2^24 jiffies.
    const CIRCLE: u64 = 1 << 24;
    const STEP: u64 = CIRCLE / 16;
    let lab = Lab::new()?;
    let limits = barring(Duration::from_secs(3_600));
    lab.kernel().set_limits(&limits, &[])?;
    let gate = Some(Rate { per_second: 10, burst: 200 });
    lab.kernel().set_flood(&FloodLimits { connections: gate, ..FloodLimits::default() })?;
    let source = address("192.0.2.1")?;
    let frame = packet::udp_from(source, b"");
    lab.kernel().test_run(&frame, 200)?;
    lab.expect("barred", &frame, DROP, Reason::Penalty)?;
    let syn = packet::tcp_from(address("192.0.2.2")?, packet::SYN);
    let new_connections = || -> Result<u64> {
        let before = lab.kernel().stats();
        // Others would be over a limit of their own.
        lab.kernel().set_limits(&SourceLimits::default(), &[])?;
        lab.kernel().test_run(&syn, 1_000)?;
        lab.kernel().set_limits(&limits, &[])?;
        Ok(1_000 - (lab.kernel().stats().packets(Reason::SynGate) - before.packets(Reason::SynGate)))
    };
    let first = new_connections()?;
    ensure!((200..230).contains(&first), "{first} through the gate");
    // Two seconds of its 20 before it has gone round, and on.
    for step in 1..=20 {
        lab.let_pass(if step == 16 { STEP - 500 } else { STEP })?;
        lab.kernel().sweep();
        let seen = lab.kernel().source(source);
        ensure!(seen.barred_ms == 0, "after {step} sixteenths of the circle: {seen:?}");
        if step == 16 {
            let again = new_connections()?;
            ensure!((200..230).contains(&again), "{again} through the gate");
        }
    }
    lab.expect("free", &frame, PASS, Reason::Clean)
}

#[test]
fn without_a_heartbeat_limits_and_ports_only_observe() -> Result<()> {
    let lab = Lab::with(|config| config.heartbeat_timeout = Duration::from_millis(1_000))?;
    lab.kernel().set_limits(&packets(1, 1), &[])?;
    lab.kernel().set_ports(&PortPolicy { closed_by_default: true, ..PortPolicy::default() });
    lab.kernel().ban("198.51.100.7".parse()?, Expiry::Never, BanReason::Manual)?;
    let closed = packet::tcp_from(address("192.0.2.1")?, packet::SYN);
    let fast = packet::tcp_from(address("192.0.2.2")?, packet::ACK);
    lab.kernel().heartbeat();
    lab.expect("port", &closed, DROP, Reason::Port)?;
    lab.kernel().test_run(&fast, 10)?;
    lab.expect("limit", &fast, DROP, Reason::RatePackets)?;
    thread::sleep(Duration::from_millis(1_200));
    lab.expect("port, observed", &closed, PASS, Reason::Clean)?;
    lab.kernel().test_run(&fast, 10)?;
    lab.expect("limit, observed", &fast, PASS, Reason::Clean)?;
    let banned = packet::tcp_from(address("198.51.100.7")?, packet::SYN);
    lab.expect("bans hold", &banned, DROP, Reason::BanHost)?;
    lab.kernel().heartbeat();
    lab.expect("enforced again", &closed, DROP, Reason::Port)?;
    let observe = Modes::all(Mode::Enforce).with(Part::Ports, Mode::Observe);
    lab.kernel().set_modes(observe);
    ensure!(lab.kernel().modes() == observe);
    let before = lab.kernel().stats().observed(Reason::Port);
    lab.kernel().test_run(&packet::tcp_from(address("192.0.2.3")?, packet::SYN), 1)?;
    ensure!(lab.kernel().stats().observed(Reason::Port) == before + 1, "counted as what would drop");
    Ok(())
}

#[test]
fn values_outside_their_bounds_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    for limits in [
        packets(0, 1),
        packets(1, 0),
        SourceLimits { bytes: Some(Rate { per_second: 1, burst: 1_500 }), ..SourceLimits::default() },
    ] {
        let error = lab.kernel().set_limits(&limits, &[]).err().context("refused")?.to_string();
        ensure!(error.contains("it must be from"), "{error}");
    }
    Ok(())
}

#[test]
fn the_verifier_walks_a_bounded_number_of_instructions() -> Result<()> {
    let lab = Lab::new()?;
    // `None` before Linux 5.16, where loading at all shows that it was under a million.
    if let Some(count) = lab.kernel().verified_instructions() {
        ensure!(count < 400_000, "the verifier walked {count} instructions; a million is its limit");
        println!("verified instructions: {count}");
    }
    Ok(())
}

#[test]
fn what_the_limiter_holds_of_a_source_can_be_read() -> Result<()> {
    let lab = Lab::new()?;
    let bar = Bar { violations: 2, within: Duration::from_secs(60), lasting: Duration::from_secs(3600) };
    lab.kernel().set_limits(&SourceLimits { bar: Some(bar), ..packets(1, 50) }, &[])?;
    for (from, same) in [("192.0.2.9", "192.0.2.9"), ("2001:db8:5::1", "2001:db8:5::ffff")] {
        let frame = packet::tcp_from(address(from)?, packet::SYN);
        let seen = || -> Result<_> { Ok(lab.kernel().source(address(same)?)) };
        let before = seen()?;
        ensure!(before.cells.is_empty() && before.barred_ms == 0, "{from} before: {before:?}");
        lab.kernel().test_run(&frame, 40)?;
        let [cell] = seen()?.cells[..] else { anyhow::bail!("{from}: {:?}", seen()?) };
        ensure!(cell.of == "packets" && cell.burst.abs_diff(50) <= 1, "{from}: {cell:?}");
        // Ten are left, and what came meanwhile.
        ensure!(cell.left >= 9 && cell.left < 50 && cell.whole_in_ms > 0, "{from}: {cell:?}");
        lab.kernel().test_run(&frame, 400)?;
        let barred = seen()?;
        ensure!(barred.barred_ms > 3_000_000, "{from}: {barred:?}");
        ensure!(barred.cells.iter().map(|cell| cell.of).eq(["packets", "violations"]), "{from}: {barred:?}");
    }
    Ok(())
}
