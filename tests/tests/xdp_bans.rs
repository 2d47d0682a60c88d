//! Bans in the kernel, packet by packet through BPF_PROG_TEST_RUN. Needs root.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{BanChange, BanReason, Expiry, Mode, Modes, Part, Reason, Target};
use gateway_tests::xdp::{DROP, Lab, PASS, packet};

fn target(text: &str) -> Target {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn ban(lab: &Lab, text: &str) -> Result<()> {
    lab.kernel().ban(target(text), Expiry::Never, BanReason::Manual)?;
    Ok(())
}

fn from(text: &str) -> Vec<u8> {
    packet::tcp_from(text.parse::<IpAddr>().unwrap_or_else(|error| panic!("{text}: {error}")), packet::SYN)
}

#[test]
fn each_shape_of_ban_drops_its_sources_and_no_other() -> Result<()> {
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("198.51.100.7", &["198.51.100.7"], &["198.51.100.6", "198.51.100.8", "198.51.101.7"]),
        ("198.51.100.0/31", &["198.51.100.0", "198.51.100.1"], &["198.51.100.2", "198.51.99.255"]),
        ("198.51.100.64/26", &["198.51.100.64", "198.51.100.127"], &["198.51.100.63", "198.51.100.128"]),
        ("198.51.100.0/25", &["198.51.100.0", "198.51.100.127"], &["198.51.100.128"]),
        ("198.51.100.0/24", &["198.51.100.0", "198.51.100.255"], &["198.51.99.255", "198.51.101.0"]),
        ("198.51.96.0/19", &["198.51.96.0", "198.51.127.255"], &["198.51.95.255", "198.51.128.0"]),
        ("198.50.0.0/15", &["198.50.0.0", "198.51.255.255"], &["198.49.255.255", "198.52.0.0"]),
        ("198.0.0.0/8", &["198.0.0.0", "198.255.255.255"], &["197.255.255.255", "199.0.0.0"]),
        ("196.0.0.0/9", &["196.127.255.255"], &["196.128.0.0"]),
        ("2001:db8::7", &["2001:db8::7"], &["2001:db8::6", "2001:db8::8", "2001:db9::7"]),
        ("2001:db8::/64", &["2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"], &["2001:db8:0:1::1"]),
        ("2001:db8:8::/45", &["2001:db8:8::", "2001:db8:f:ffff::"], &["2001:db8:10::", "2001:db8:7::"]),
        ("2001:db8::/32", &["2001:db8::", "2001:db8:ffff::1"], &["2001:db9::", "2001:db7::"]),
        ("2001:db8::/121", &["2001:db8::7f"], &["2001:db8::80"]),
        ("2000::/16", &["2000:ffff::1"], &["2001::1"]),
    ];
    let lab = Lab::new()?;
    for (text, inside, outside) in rows {
        for source in inside.iter().chain(*outside) {
            lab.expect(&format!("{source} before {text}"), &from(source), PASS, Reason::Clean)?;
        }
        ban(&lab, text)?;
        for source in *inside {
            let name = format!("{source} under {text}");
            lab.expect_one_of(&name, &from(source), DROP, &[Reason::BanHost, Reason::BanPrefix])?;
        }
        for source in *outside {
            lab.expect(&format!("{source} beside {text}"), &from(source), PASS, Reason::Clean)?;
        }
        let standing = lab.kernel().bans();
        ensure!(standing.len() == 1 && standing[0].target == target(text), "{text}: listed as {standing:?}");
        ensure!(standing[0].hits == inside.len() as u64, "{text}: {} hits", standing[0].hits);
        ensure!(lab.kernel().unban(target(text)), "{text} was standing");
        for source in *inside {
            lab.expect(&format!("{source} after {text}"), &from(source), PASS, Reason::Clean)?;
        }
        lab.kernel().sweep();
    }
    Ok(())
}

#[test]
fn a_ban_ends_when_its_time_is_up_and_is_swept() -> Result<()> {
    let lab = Lab::new()?;
    let sources = ["198.51.100.7", "2001:db8::7", "203.0.113.64/26"];
    for text in sources {
        lab.kernel().ban(target(text), Expiry::In(Duration::from_millis(1500)), BanReason::Waf)?;
    }
    lab.expect("host", &from("198.51.100.7"), DROP, Reason::BanHost)?;
    lab.expect("v6", &from("2001:db8::7"), DROP, Reason::BanHost)?;
    lab.expect("prefix", &from("203.0.113.65"), DROP, Reason::BanHost)?;
    sleep(Duration::from_millis(1900));
    for source in ["198.51.100.7", "2001:db8::7", "203.0.113.65"] {
        lab.expect("expired", &from(source), PASS, Reason::Clean)?;
    }
    ensure!(lab.kernel().bans().is_empty(), "expired bans are not listed");
    ensure!(lab.kernel().sweep().expired == 2 + 64, "one entry for each host and piece");
    ensure!(lab.kernel().sweep().expired == 0, "once");
    let past = SystemTime::now() - Duration::from_secs(5);
    lab.kernel().ban(target("198.51.100.7"), Expiry::At(past), BanReason::Waf)?;
    lab.expect("over before it began", &from("198.51.100.7"), PASS, Reason::Clean)
}

#[test]
fn bans_that_overlap_stand_apart() -> Result<()> {
    let lab = Lab::new()?;
    for text in ["198.51.100.0/24", "198.51.100.0/23", "198.51.100.9", "198.51.0.0/16"] {
        ban(&lab, text)?;
    }
    lab.expect("host first", &from("198.51.100.9"), DROP, Reason::BanHost)?;
    for text in ["198.51.100.9", "198.51.0.0/16", "198.51.100.0/23"] {
        ensure!(lab.kernel().unban(target(text)), "{text} stood");
        lab.expect("still under the others", &from("198.51.100.9"), DROP, Reason::BanPrefix)?;
    }
    lab.expect("other half of the /23", &from("198.51.101.9"), PASS, Reason::Clean)?;
    ensure!(lab.kernel().unban(target("198.51.100.0/24")), "the last stood");
    lab.expect("none left", &from("198.51.100.9"), PASS, Reason::Clean)
}

#[test]
fn what_stands_is_found_after_a_sweep_and_what_was_lifted_is_not() -> Result<()> {
    let lab = Lab::new()?;
    // Neighbours in a /24, and others spread over the address space.
    let hosts: Vec<IpAddr> =
        (0..200u32)
            .map(|i| {
                if i < 100 { (198 << 24) + (51 << 16) + (100 << 8) + i } else { (20 << 24) + i * 0x0040_1107 }
            })
            .map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)))
            .collect();
    for host in &hosts {
        lab.kernel().ban((*host).into(), Expiry::Never, BanReason::Manual)?;
    }
    for host in hosts.iter().step_by(2) {
        ensure!(lab.kernel().unban((*host).into()), "{host} stood");
    }
    for sweeps in 0..3 {
        for (number, host) in hosts.iter().enumerate() {
            let (action, reason) =
                if number % 2 == 0 { (PASS, Reason::Clean) } else { (DROP, Reason::BanHost) };
            let frame = packet::tcp_from(*host, packet::SYN);
            lab.expect(&format!("{host} after {sweeps} sweeps"), &frame, action, reason)?;
        }
        lab.kernel().sweep();
    }
    // A host comes back to where it was lifted.
    lab.kernel().ban(hosts[0].into(), Expiry::Never, BanReason::Manual)?;
    lab.expect("banned again", &packet::tcp_from(hosts[0], packet::SYN), DROP, Reason::BanHost)
}

#[test]
fn nobody_is_locked_out() -> Result<()> {
    let lab = Lab::new()?;
    let management = target("198.51.100.16/28");
    let proxy = target("2001:db8:7::1");
    lab.kernel().ban(target("198.51.100.17"), Expiry::Never, BanReason::Manual)?;
    let lifted = lab.kernel().set_allowlist(&[management], &[proxy])?;
    ensure!(lifted == 1, "the ban inside the new allowlist is lifted");
    for text in [
        "198.51.100.17",
        "198.51.100.16/28",
        "198.51.100.0/24",
        "198.0.0.0/8",
        "2001:db8:7::1",
        "2001:db8:7::/48",
        "127.0.0.1",
        "127.0.0.0/8",
        "::1",
        "0.0.0.0/0",
        "::/0",
    ] {
        let refused = lab.kernel().ban(target(text), Expiry::Never, BanReason::Manual);
        let error = refused.err().with_context(|| format!("{text} was banned"))?;
        ensure!(error.to_string().starts_with(&format!("{} is not banned: ", target(text))), "{error}");
    }
    let applied = lab.kernel().apply(&[
        BanChange::Ban { target: target("198.51.100.18"), until: Expiry::Never, reason: BanReason::Waf },
        BanChange::Ban { target: target("198.51.100.99"), until: Expiry::Never, reason: BanReason::Waf },
        BanChange::Unban { target: target("198.51.100.99") },
    ]);
    ensure!(applied.changed == 2 && applied.refused.len() == 1 && applied.refused[0].0 == 0);
    lab.expect("allowlisted", &from("198.51.100.18"), PASS, Reason::Clean)?;
    lab.kernel().set_allowlist(&[], &[])?;
    ban(&lab, "198.51.100.18")?;
    lab.expect("no longer allowlisted", &from("198.51.100.18"), DROP, Reason::BanHost)
}

#[test]
fn modes_and_the_heartbeat() -> Result<()> {
    let lab = Lab::with(|config| config.heartbeat_timeout = Duration::from_millis(400))?;
    ban(&lab, "198.51.100.7")?;
    let banned = from("198.51.100.7");
    lab.expect("enforced", &banned, DROP, Reason::BanHost)?;
    lab.kernel().set_modes(Modes::all(Mode::Enforce).with(Part::Bans, Mode::Observe));
    lab.expect("observed", &banned, PASS, Reason::Clean)?;
    ensure!(lab.kernel().stats().observed(Reason::BanHost) == 1, "counted as what would drop");
    lab.kernel().set_modes(Modes::all(Mode::Enforce).with(Part::Bans, Mode::Off));
    lab.expect("off", &banned, PASS, Reason::Clean)?;
    ensure!(lab.kernel().stats().observed(Reason::BanHost) == 1, "not looked at");
    lab.kernel().set_modes(Modes::OFF);
    lab.expect("all off", &banned, PASS, Reason::Off)?;
    lab.kernel().set_modes(Modes::all(Mode::Enforce));
    lab.kernel().heartbeat();
    lab.expect("alive", &banned, DROP, Reason::BanHost)?;
    sleep(Duration::from_millis(600));
    lab.expect("bans hold without the daemon", &banned, DROP, Reason::BanHost)
}

#[test]
fn drops_are_sampled_under_a_budget() -> Result<()> {
    let lab = Lab::new()?;
    ban(&lab, "198.51.100.7")?;
    let mut events = lab.kernel().events().context("the first reader")?;
    ensure!(lab.kernel().events().is_none(), "there is one reader");
    lab.kernel().test_run(&from("198.51.100.7"), 1)?;
    let event = events.next().context("an event")?;
    ensure!(event.reason == "ban_host" && event.ban_reason == Some("manual") && event.dropped, "{event:?}");
    ensure!(event.source == Some("198.51.100.7".parse()?), "{event:?}");
    ensure!(event.destination == Some("203.0.113.1".parse()?), "{event:?}");
    ensure!(event.length == 54 && event.age < Duration::from_secs(5), "{event:?}");
    lab.kernel().test_run(&from("198.51.100.7"), 100_000)?;
    let stats = lab.kernel().stats();
    ensure!(stats.packets(Reason::BanHost) == 100_001, "every drop is counted");
    ensure!(stats.events + stats.events_lost == 100_001, "every drop is sampled or counted as lost");
    ensure!(stats.events < 50_000, "the budget holds: {} events", stats.events);
    ensure!(
        std::iter::from_fn(|| events.next()).count() as u64 == stats.events - 1,
        "all that were sent arrive"
    );
    Ok(())
}

#[test]
fn an_event_tells_the_ports_although_the_source_was_judged_first() -> Result<()> {
    let lab = Lab::new()?;
    for text in ["198.51.100.7", "2001:db8::7"] {
        ban(&lab, text)?;
    }
    let mut events = lab.kernel().events().context("the first reader")?;
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = ("198.51.100.7".parse()?, "2001:db8::7".parse()?);
    let (syn, datagram) = (packet::tcp(4_000, 443, packet::SYN), packet::udp(5_000, 53, b"x"));
    let six = |next, payload: &[u8]| packet::ipv6(v6, next, 64, payload);
    for (name, packet, ports, protocol, flags) in [
        ("tcp", packet::ipv4(v4, 6, &syn), (4_000, 443), 6, packet::SYN),
        ("options", packet::ipv4_with(v4, 6, 0, &[1; 12], &syn), (4_000, 443), 6, packet::SYN),
        ("udp", packet::ipv4(v4, 17, &datagram), (5_000, 53), 17, 0),
        ("icmp", packet::ipv4(v4, 1, &packet::icmp(13, 7)), (0, 13 << 8 | 7), 1, 0),
        ("first fragment", packet::ipv4_with(v4, 17, 0x2000, &[], &datagram), (5_000, 53), 17, 0),
        ("later fragment", packet::ipv4_with(v4, 17, 0x2010, &[], &datagram), (0, 0), 17, 0),
        ("cut", packet::ipv4(v4, 6, &syn)[..30].to_vec(), (0, 0), 6, 0),
        ("v6 tcp", six(6, &syn), (4_000, 443), 6, packet::SYN),
        ("v6 behind options", six(60, &packet::extension(17, 2, &datagram)), (5_000, 53), 17, 0),
        ("v6 fragment", six(44, &packet::fragment6(17, 2, true, &[0; 8])), (0, 0), 17, 0),
    ] {
        for tags in [&[][..], &[0x8100]] {
            let frame = packet::frame_tagged(tags, packet::ether_type(&packet), &packet);
            let name = format!("{name}, {} tags", tags.len());
            lab.expect(&name, &frame, DROP, Reason::BanHost)?;
            let event = events.next().with_context(|| name.clone())?;
            let got = (event.source_port, event.destination_port);
            ensure!(
                got == ports && event.protocol == protocol && event.tcp_flags == flags,
                "{name}: {event:?}"
            );
            // The budget is eight a jiffy.
            sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

#[test]
fn what_a_full_ring_loses_is_counted_and_it_goes_on_when_there_is_room() -> Result<()> {
    let lab = Lab::new()?;
    ban(&lab, "198.51.100.7")?;
    let mut events = lab.kernel().events().context("the first reader")?;
    let frame = from("198.51.100.7");
    // The budget is eight a jiffy: it takes a while until the ring is full, and nobody reads.
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut packets = 0;
    let full = loop {
        let before = lab.kernel().stats().events;
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            lab.kernel().test_run(&frame, 1)?;
            packets += 1;
        }
        let after = lab.kernel().stats().events;
        if after == before {
            break after;
        }
        ensure!(Instant::now() < deadline, "the ring never got full: {after} events");
    };
    let stats = lab.kernel().stats();
    ensure!(stats.packets(Reason::BanHost) == packets, "every packet is dropped");
    ensure!(stats.events + stats.events_lost == packets, "sampled or lost: {stats:?}");
    // 256 KiB of records of 64 bytes with a head of eight.
    ensure!((3_000..=3_700).contains(&full), "{full} events in the ring");
    ensure!(std::iter::from_fn(|| events.next()).count() as u64 == full, "all that were sent arrive");
    sleep(Duration::from_millis(50));
    lab.kernel().test_run(&frame, 1)?;
    ensure!(events.next().is_some(), "it goes on");
    Ok(())
}

#[test]
fn bans_outlive_the_daemon_and_two_daemons_do_not_fight() -> Result<()> {
    use gateway::kernel::{Kernel, KernelConfig, KernelError};
    let root = std::path::PathBuf::from(format!("/sys/fs/bpf/gateway-test-life-{}", std::process::id()));
    let config = KernelConfig {
        pin_root: root.clone(),
        capacity_hosts: 10_000,
        capacity_wide: 10_000,
        ..KernelConfig::default()
    };
    let first = Kernel::open(&config)?;
    ensure!(!first.adopted(), "new maps");
    first.ban(target("198.51.100.7"), Expiry::In(Duration::from_secs(600)), BanReason::Waf)?;
    first.ban(target("2001:db8::/45"), Expiry::Never, BanReason::Scanner)?;
    ensure!(matches!(Kernel::open(&config), Err(KernelError::InUse { .. })), "one writer");
    drop(first);
    let second = Kernel::open(&config)?;
    ensure!(second.adopted(), "maps adopted");
    ensure!(second.test_run(&from("198.51.100.7"), 1)?.action == DROP, "the ban holds");
    ensure!(second.test_run(&from("2001:db8:7::1"), 1)?.action == DROP, "the prefix too");
    let ban = second.find(target("198.51.100.7")).context("listed")?;
    ensure!(ban.reason == BanReason::Waf && ban.hits == 1, "{ban:?}");
    ensure!(ban.remaining.is_some_and(|left| left > Duration::from_secs(590)), "{ban:?}");
    second.uninstall()?;
    ensure!(!root.exists(), "nothing is left behind");
    Ok(())
}
