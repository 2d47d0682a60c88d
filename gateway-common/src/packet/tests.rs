use std::vec::Vec;

use super::{link, v4, v6};
use crate::reason::Reason;

/// An untagged frame with this Ethernet type and packet.
fn frame(ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ether_type);
    frame.extend(packet);
    frame
}

fn ipv4(first: u8, total: u16, fragment: u16, protocol: u8, source: [u8; 4]) -> Vec<u8> {
    let mut packet = std::vec![first, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend([203, 0, 113, 1]);
    packet.extend([0; 20]);
    frame([8, 0], &packet)
}

fn ipv6(first: u8, length: u16, next: u8, source: u8) -> Vec<u8> {
    let mut packet = std::vec![first, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, 255]);
    packet.extend([source; 16]);
    packet.extend([0x20; 16]);
    packet.extend([0; 20]);
    frame([0x86, 0xdd], &packet)
}

/// The short ways say what the whole parsers say, wherever the frame is cut; `plain`: whether they take the whole frame.
fn check(name: &str, frame: &[u8], plain: bool) {
    for end in 0..=frame.len() {
        let cut = &frame[..end];
        let found = link(cut);
        let whole = end == frame.len();
        match found.ether_type {
            super::IPV4 => {
                let full = v4::header(cut, found.offset);
                let short = v4::plain(cut, found.offset);
                if let Some(short) = short {
                    let bogus = v4::bogus_source(short.source).then_some(Reason::BogusSource);
                    let fault = v4::plain_fault(cut, found.offset).or(bogus);
                    assert_eq!(v4::Header { fault, ..short }, full, "{name} cut at {end}");
                }
                assert!(!whole || short.is_some() == plain, "{name}");
            }
            super::IPV6 => {
                let full = v6::header(cut, found.offset);
                let short = v6::plain(cut, found.offset);
                if let Some(short) = short {
                    let fault = v6::plain_fault(cut, found.offset, short.source);
                    assert_eq!(v6::Header { fault, ..short }, full, "{name} cut at {end}");
                }
                assert!(!whole || short.is_some() == plain, "{name}");
            }
            other => assert!(end < 14, "{name} cut at {end}: {other:#x}"),
        }
    }
}

#[test]
fn the_short_ways_say_what_the_whole_parsers_say() {
    let source = [192, 0, 2, 1];
    for (name, frame, plain) in [
        ("tcp", ipv4(0x45, 40, 0x4000, 6, source), true),
        ("udp", ipv4(0x45, 40, 0, 17, source), true),
        ("another protocol", ipv4(0x45, 40, 0, 47, source), true),
        ("shorter than its header", ipv4(0x45, 19, 0, 6, source), true),
        ("longer than its frame", ipv4(0x45, 41, 0, 6, source), true),
        ("loopback", ipv4(0x45, 40, 0, 6, [127, 0, 0, 1]), true),
        ("options", ipv4(0x46, 40, 0, 6, source), false),
        ("a short header", ipv4(0x44, 40, 0, 6, source), false),
        ("another version", ipv4(0x65, 40, 0, 6, source), false),
        ("a first fragment", ipv4(0x45, 40, 0x2000, 6, source), false),
        ("a later fragment", ipv4(0x45, 40, 0x0001, 6, source), false),
        ("the last fragment", ipv4(0x45, 40, 0x1f00, 6, source), false),
        ("v6 tcp", ipv6(0x60, 20, 6, 0x20), true),
        ("v6 udp", ipv6(0x6f, 20, 17, 0x20), true),
        ("v6 icmp", ipv6(0x60, 20, 58, 0x20), true),
        ("v6 longer than its frame", ipv6(0x60, 21, 6, 0x20), true),
        ("v6 multicast source", ipv6(0x60, 20, 6, 0xff), true),
        ("v6 extension", ipv6(0x60, 20, 0, 0x20), false),
        ("v6 another protocol", ipv6(0x60, 20, 47, 0x20), false),
        ("v6 another version", ipv6(0x40, 20, 6, 0x20), false),
    ] {
        check(name, &frame, plain);
    }
}

#[test]
fn sources_that_no_router_forwards() {
    for (address, bogus) in [
        (0x0000_0000, false),
        (0x0000_0001, true),
        (0x00ff_ffff, true),
        (0x0100_0000, false),
        (0x7eff_ffff, false),
        (0x7f00_0000, true),
        (0x7fff_ffff, true),
        (0x8000_0000, false),
        (0xdfff_ffff, false),
        (0xe000_0000, true),
        (0xffff_ffff, true),
    ] {
        assert_eq!(v4::bogus_source(address), bogus, "{address:#010x}");
    }
}
