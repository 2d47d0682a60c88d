//! The packet table: every protocol from every kind of source, in every encapsulation, and each cut at every offset.
//! Through BPF_PROG_TEST_RUN; needs root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{BanReason, Expiry, PortPolicy, PortSet, Reason, Target};
use gateway_tests::xdp::{
    DROP, Lab, PASS,
    packet::{ACK, SYN, authentication, extension, fragment6, frame_tagged, icmp, ipv4_with, ipv6, tcp, udp},
};

/// A kind of source, and what its packets end with: `None` leaves it to the rest of the packet.
struct Source {
    name: &'static str,
    address: &'static str,
    verdict: Option<(u32, Reason)>,
}

const SOURCES: &[Source] = &[
    Source { name: "clean v4", address: "192.0.2.77", verdict: None },
    Source { name: "banned v4", address: "198.51.100.7", verdict: Some((DROP, Reason::BanHost)) },
    Source { name: "v4 in a banned /20", address: "198.51.97.1", verdict: Some((DROP, Reason::BanPrefix)) },
    Source { name: "v4 in a banned /27", address: "198.51.200.33", verdict: Some((DROP, Reason::BanHost)) },
    Source { name: "feed v4", address: "203.0.113.99", verdict: Some((DROP, Reason::Feed)) },
    Source { name: "v4 in a feed /22", address: "203.0.98.200", verdict: Some((DROP, Reason::Feed)) },
    Source { name: "allowed v4 in the feed", address: "203.0.96.5", verdict: Some((PASS, Reason::Allowed)) },
    Source { name: "clean v6", address: "2001:db8:1::7", verdict: None },
    Source { name: "banned v6", address: "2001:db8:2::7", verdict: Some((DROP, Reason::BanHost)) },
    Source {
        name: "v6 in a banned /60",
        address: "2001:db8:3:5::1",
        verdict: Some((DROP, Reason::BanPrefix)),
    },
    Source { name: "feed v6", address: "2001:db8:4::9", verdict: Some((DROP, Reason::Feed)) },
    Source { name: "v6 in a feed /41", address: "2001:db8:85:1::1", verdict: Some((DROP, Reason::Feed)) },
    Source {
        name: "allowed v6 in the feed",
        address: "2001:db8:85:9::1",
        verdict: Some((PASS, Reason::Allowed)),
    },
];

/// What lies above IP, and what it ends with from a clean source.
struct Payload {
    name: &'static str,
    build: fn(IpAddr) -> Option<Vec<u8>>,
    verdict: (u32, Reason),
}

fn v4(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(source, protocol, 0, &[], payload)
}

#[allow(clippy::unnecessary_wraps, reason = "as the builders for one family")]
fn either(source: IpAddr, protocol: u8, payload: &[u8]) -> Option<Vec<u8>> {
    Some(match source {
        IpAddr::V4(source) => v4(source, protocol, payload),
        IpAddr::V6(source) => ipv6(source, protocol, 64, payload),
    })
}

fn only4(source: IpAddr, build: impl Fn(Ipv4Addr) -> Vec<u8>) -> Option<Vec<u8>> {
    if let IpAddr::V4(source) = source { Some(build(source)) } else { None }
}

fn only6(source: IpAddr, build: impl Fn(Ipv6Addr) -> Vec<u8>) -> Option<Vec<u8>> {
    if let IpAddr::V6(source) = source { Some(build(source)) } else { None }
}

const CLEAN: (u32, Reason) = (PASS, Reason::Clean);
const CLOSED: (u32, Reason) = (DROP, Reason::Port);

const PAYLOADS: &[Payload] = &[
    Payload { name: "SYN to an open port", build: |s| either(s, 6, &tcp(4000, 443, SYN)), verdict: CLEAN },
    Payload { name: "SYN to a closed port", build: |s| either(s, 6, &tcp(4000, 23, SYN)), verdict: CLOSED },
    Payload {
        name: "SYN to the last closed port",
        build: |s| either(s, 6, &tcp(4000, 65_535, SYN)),
        verdict: CLOSED,
    },
    Payload { name: "ACK to a closed port", build: |s| either(s, 6, &tcp(4000, 23, ACK)), verdict: CLEAN },
    Payload {
        name: "SYN-ACK to a closed port",
        build: |s| either(s, 6, &tcp(4000, 23, SYN | ACK)),
        verdict: CLEAN,
    },
    Payload {
        name: "TCP header too short",
        build: |s| {
            either(s, 6, &{
                let mut t = tcp(1, 443, SYN);
                t[12] = 0x40;
                t
            })
        },
        verdict: (DROP, Reason::Transport),
    },
    Payload { name: "UDP", build: |s| either(s, 17, &udp(4000, 443, b"hello")), verdict: CLEAN },
    Payload { name: "UDP to a closed port", build: |s| either(s, 17, &udp(4000, 53, b"x")), verdict: CLOSED },
    Payload {
        name: "UDP with an impossible length",
        build: |s| {
            either(s, 17, &{
                let mut u = udp(1, 443, b"");
                u[5] = 7;
                u
            })
        },
        verdict: (DROP, Reason::Transport),
    },
    Payload { name: "GRE", build: |s| either(s, 47, &[0; 8]), verdict: (DROP, Reason::Protocol) },
    Payload { name: "ESP", build: |s| either(s, 50, &[0; 12]), verdict: CLEAN },
    Payload { name: "no upper layer at all", build: |s| either(s, 99, &[]), verdict: CLEAN },
    Payload { name: "echo request", build: |s| only4(s, |s| v4(s, 1, &icmp(8, 0))), verdict: CLEAN },
    Payload {
        name: "timestamp request",
        build: |s| only4(s, |s| v4(s, 1, &icmp(13, 0))),
        verdict: (DROP, Reason::IcmpType),
    },
    Payload {
        name: "all IPv4 options",
        build: |s| only4(s, |s| ipv4_with(s, 6, 0, &[1; 40], &tcp(1, 443, SYN))),
        verdict: CLEAN,
    },
    Payload {
        name: "options before a closed port",
        build: |s| only4(s, |s| ipv4_with(s, 6, 0, &[1; 12], &tcp(1, 23, SYN))),
        verdict: CLOSED,
    },
    Payload {
        name: "first fragment",
        build: |s| only4(s, |s| ipv4_with(s, 17, 0x2000, &[], &udp(1, 443, &[0; 8]))),
        verdict: CLEAN,
    },
    Payload {
        name: "first fragment to a closed port",
        build: |s| only4(s, |s| ipv4_with(s, 17, 0x2000, &[], &udp(1, 53, &[0; 8]))),
        verdict: CLOSED,
    },
    Payload {
        name: "later fragment",
        build: |s| only4(s, |s| ipv4_with(s, 17, 0x2010, &[], &[0; 16])),
        verdict: CLEAN,
    },
    Payload {
        name: "last fragment",
        build: |s| only4(s, |s| ipv4_with(s, 6, 0x0010, &[], &[0; 3])),
        verdict: CLEAN,
    },
    Payload {
        name: "tiny first fragment",
        build: |s| only4(s, |s| ipv4_with(s, 6, 0x2000, &[], &tcp(1, 443, SYN)[..8])),
        verdict: (DROP, Reason::TinyFragment),
    },
    Payload {
        name: "TCP fragment over the header",
        build: |s| only4(s, |s| ipv4_with(s, 6, 0x0001, &[], &[0; 16])),
        verdict: (DROP, Reason::TinyFragment),
    },
    Payload {
        name: "v6 echo request",
        build: |s| only6(s, |s| ipv6(s, 58, 64, &icmp(128, 0))),
        verdict: (DROP, Reason::IcmpType),
    },
    Payload {
        name: "v6 packet too big",
        build: |s| only6(s, |s| ipv6(s, 58, 64, &icmp(2, 0))),
        verdict: CLEAN,
    },
    Payload {
        name: "neighbour solicitation",
        build: |s| only6(s, |s| ipv6(s, 58, 255, &icmp(135, 0))),
        verdict: (PASS, Reason::Discovery),
    },
    Payload {
        name: "router advertisement",
        build: |s| only6(s, |s| ipv6(s, 58, 255, &icmp(134, 0))),
        verdict: (PASS, Reason::Discovery),
    },
    Payload {
        name: "redirect from afar",
        build: |s| only6(s, |s| ipv6(s, 58, 64, &icmp(137, 0))),
        verdict: (DROP, Reason::IcmpType),
    },
    Payload {
        name: "hop-by-hop",
        build: |s| only6(s, |s| ipv6(s, 0, 64, &extension(6, 1, &tcp(1, 443, SYN)))),
        verdict: CLEAN,
    },
    Payload {
        name: "destination options before a closed port",
        build: |s| only6(s, |s| ipv6(s, 60, 64, &extension(6, 3, &tcp(1, 23, SYN)))),
        verdict: CLOSED,
    },
    Payload {
        name: "routing and mobility headers",
        build: |s| only6(s, |s| ipv6(s, 43, 64, &extension(135, 2, &extension(17, 1, &udp(1, 53, b""))))),
        verdict: CLOSED,
    },
    Payload {
        name: "authentication header",
        build: |s| only6(s, |s| ipv6(s, 51, 64, &authentication(6, 4, &tcp(1, 23, SYN)))),
        verdict: CLOSED,
    },
    Payload {
        name: "six extension headers",
        build: |s| only6(s, |s| ipv6(s, 60, 64, &chain(6))),
        verdict: CLOSED,
    },
    Payload {
        name: "seven extension headers",
        build: |s| only6(s, |s| ipv6(s, 60, 64, &chain(7))),
        verdict: (DROP, Reason::ExtensionDepth),
    },
    Payload { name: "no next header", build: |s| only6(s, |s| ipv6(s, 59, 64, &[0; 4])), verdict: CLEAN },
    Payload {
        name: "v6 first fragment",
        build: |s| only6(s, |s| ipv6(s, 44, 64, &fragment6(17, 0, true, &udp(1, 53, b"")))),
        verdict: CLOSED,
    },
    Payload {
        name: "v6 tiny first fragment",
        build: |s| only6(s, |s| ipv6(s, 44, 64, &fragment6(6, 0, true, &[0; 8]))),
        verdict: (DROP, Reason::TinyFragment),
    },
    Payload {
        name: "v6 later fragment",
        build: |s| only6(s, |s| ipv6(s, 44, 64, &fragment6(17, 2, true, &[0; 8]))),
        verdict: CLEAN,
    },
    Payload {
        name: "v6 atomic fragment",
        build: |s| only6(s, |s| ipv6(s, 44, 64, &fragment6(17, 0, false, &udp(1, 443, b"")))),
        verdict: CLEAN,
    },
];

/// A chain of destination options before a SYN to a closed port.
fn chain(count: u8) -> Vec<u8> {
    (0..count).fold(tcp(1, 23, SYN), |inner, i| extension(if i == 0 { 6 } else { 60 }, 1, &inner))
}

const TAGS: &[&[u16]] = &[&[], &[0x8100], &[0x88a8, 0x8100]];

struct Case {
    name: String,
    frame: Vec<u8>,
    verdict: (u32, Reason),
    /// Bytes of Ethernet, tags and the fixed IP header: a packet cut before has no address.
    addressed: usize,
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for tags in TAGS {
        for source in SOURCES {
            let address: IpAddr = source.address.parse()?;
            for payload in PAYLOADS {
                let Some(packet) = (payload.build)(address) else { continue };
                let ether_type = if address.is_ipv4() { 0x0800 } else { 0x86dd };
                cases.push(Case {
                    name: format!("{} from {}, {} tags", payload.name, source.name, tags.len()),
                    frame: frame_tagged(tags, ether_type, &packet),
                    verdict: source.verdict.unwrap_or(payload.verdict),
                    addressed: 14 + 4 * tags.len() + if address.is_ipv4() { 20 } else { 40 },
                });
            }
        }
    }
    Ok(cases)
}

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    let target = |text: &str| text.parse::<Target>().with_context(|| text.to_owned());
    for text in ["198.51.100.7", "198.51.96.0/20", "198.51.200.32/27", "2001:db8:2::7", "2001:db8:3::/60"] {
        lab.kernel().ban(target(text)?, Expiry::Never, BanReason::Manual)?;
    }
    let feed = ["203.0.113.99", "203.0.96.0/22", "2001:db8:4::9", "2001:db8:80::/41"];
    lab.kernel().set_feed(feed.iter().map(|text| target(text)).collect::<Result<Vec<_>>>()?)?;
    lab.kernel().set_allowlist(&[target("203.0.96.0/29")?, target("2001:db8:85:9::/64")?], &[])?;
    lab.kernel().set_ports(&PortPolicy {
        closed: PortSet {
            tcp: vec![23..=23, 65_535..=65_535],
            udp: vec![53..=53],
            icmp: vec![13],
            icmp6: vec![128, 137],
            protocols: vec![47],
        },
        ..PortPolicy::default()
    });
    Ok(lab)
}

#[test]
fn every_protocol_from_every_source() -> Result<()> {
    let lab = lab()?;
    let cases = cases()?;
    println!("{} cases", cases.len());
    ensure!(cases.len() >= 300, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(error) = lab.expect(&case.name, &case.frame, case.verdict.0, case.verdict.1) {
            wrong.push(error.to_string());
        }
    }
    ensure!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn every_packet_cut_at_every_offset() -> Result<()> {
    let lab = lab()?;
    let mut runs = 0;
    for case in cases()? {
        for cut in 14..case.frame.len() {
            let name = format!("{} cut at {cut}", case.name);
            let source_decides = matches!(
                case.verdict.1,
                Reason::BanHost | Reason::BanPrefix | Reason::Feed | Reason::Allowed
            );
            // IP knows its length, so every cut is seen; the source goes first once its address is there.
            let (action, reason) = if source_decides && cut >= case.addressed {
                case.verdict
            } else {
                (DROP, Reason::Truncated)
            };
            lab.expect(&name, &case.frame[..cut], action, reason)?;
            runs += 1;
        }
    }
    println!("{runs} cuts");
    ensure!(runs > 10_000, "{runs} runs");
    Ok(())
}

#[test]
fn packets_that_break_their_format() -> Result<()> {
    let lab = Lab::new()?;
    let source = Ipv4Addr::new(192, 0, 2, 77);
    let source6: Ipv6Addr = "2001:db8::7".parse()?;
    let good4 = v4(source, 6, &tcp(1, 443, SYN));
    let good6 = ipv6(source6, 6, 64, &tcp(1, 443, SYN));
    let changed = |packet: &[u8], at: usize, byte: u8| {
        let mut packet = packet.to_vec();
        packet[at] = byte;
        packet
    };
    let rows: Vec<(&str, Vec<u8>, u32, Reason)> = vec![
        ("good", frame_tagged(&[], 0x0800, &good4), PASS, Reason::Clean),
        ("ARP", frame_tagged(&[], 0x0806, &[0; 28]), PASS, Reason::NotIp),
        ("tagged ARP", frame_tagged(&[0x8100], 0x0806, &[0; 28]), PASS, Reason::NotIp),
        ("802.2 length", frame_tagged(&[], 0x0026, &[0; 38]), PASS, Reason::NotIp),
        ("three tags", frame_tagged(&[0x8100; 3], 0x0800, &good4), DROP, Reason::VlanDepth),
        ("old QinQ type", frame_tagged(&[0x9100, 0x8100], 0x0800, &good4), PASS, Reason::Clean),
        ("version 5", frame_tagged(&[], 0x0800, &changed(&good4, 0, 0x55)), DROP, Reason::Ipv4Header),
        ("IPv6 in an IPv4 frame", frame_tagged(&[], 0x0800, &good6), DROP, Reason::Ipv4Header),
        ("IPv4 in an IPv6 frame", frame_tagged(&[], 0x86dd, &good4), DROP, Reason::Ipv6Header),
        (
            "IPv4 header of 16 bytes",
            frame_tagged(&[], 0x0800, &changed(&good4, 0, 0x44)),
            DROP,
            Reason::Ipv4Header,
        ),
        (
            "total length under the header",
            frame_tagged(&[], 0x0800, &changed(&good4, 3, 19)),
            DROP,
            Reason::Ipv4Header,
        ),
        (
            "total length over the frame",
            frame_tagged(&[], 0x0800, &changed(&good4, 3, 41)),
            DROP,
            Reason::Truncated,
        ),
        (
            "padding after the packet",
            frame_tagged(&[], 0x0800, &[&good4[..], &[0; 9]].concat()),
            PASS,
            Reason::Clean,
        ),
        (
            "IPv6 length over the frame",
            frame_tagged(&[], 0x86dd, &changed(&good6, 5, 21)),
            DROP,
            Reason::Truncated,
        ),
        ("loopback source", frame_tagged(&[], 0x0800, &changed(&good4, 12, 127)), DROP, Reason::BogusSource),
        ("multicast source", frame_tagged(&[], 0x0800, &changed(&good4, 12, 224)), DROP, Reason::BogusSource),
        ("reserved source", frame_tagged(&[], 0x0800, &changed(&good4, 12, 255)), DROP, Reason::BogusSource),
        (
            "this-network source",
            frame_tagged(&[], 0x0800, &changed(&good4, 12, 0)),
            DROP,
            Reason::BogusSource,
        ),
        (
            "DHCP client source",
            frame_tagged(&[], 0x0800, &v4(Ipv4Addr::UNSPECIFIED, 17, &udp(68, 67, b""))),
            PASS,
            Reason::Clean,
        ),
        (
            "IPv6 multicast source",
            frame_tagged(&[], 0x86dd, &changed(&good6, 8, 0xff)),
            DROP,
            Reason::BogusSource,
        ),
        (
            "IPv6 loopback source",
            frame_tagged(&[], 0x86dd, &ipv6(Ipv6Addr::LOCALHOST, 6, 64, &tcp(1, 443, SYN))),
            DROP,
            Reason::BogusSource,
        ),
        (
            "IPv4-mapped source",
            frame_tagged(&[], 0x86dd, &ipv6("::ffff:192.0.2.1".parse()?, 6, 64, &tcp(1, 443, SYN))),
            DROP,
            Reason::BogusSource,
        ),
        (
            "unspecified IPv6 source",
            frame_tagged(&[], 0x86dd, &ipv6(Ipv6Addr::UNSPECIFIED, 58, 255, &icmp(135, 0))),
            PASS,
            Reason::Discovery,
        ),
    ];
    for (name, frame, action, reason) in rows {
        lab.expect(name, &frame, action, reason)?;
    }
    Ok(())
}
