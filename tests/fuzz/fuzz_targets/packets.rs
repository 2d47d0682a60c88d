//! The packet parser against etherparse: wherever both parse a packet, they agree on addresses, protocol and ports.
#![no_main]

use etherparse::{Ipv6ExtensionSlice, Ipv6Slice, NetSlice, SlicedPacket, TransportSlice};
use gateway_common::packet::{self, Fragment, ICMP, ICMP6, TCP, UDP};
use libfuzzer_sys::fuzz_target;

/// What a parser made of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    source: u128,
    destination: u128,
    /// Of packets that are no fragments: etherparse walks on behind a fragment header, ours does not.
    protocol: Option<u8>,
    /// TCP and UDP only, likewise.
    ports: Option<(u16, u16)>,
}

/// Extension headers that only ours walks over: mobility, HIP, SHIM6.
const OURS_ONLY: [u8; 3] = [135, 139, 140];
/// The authentication header, which etherparse walks over in IPv4 too.
const AUTHENTICATION: u8 = 51;

/// Our view; none where we find fault.
fn ours(data: &[u8]) -> Option<Seen> {
    let link = packet::link(data);
    if link.fault.is_some() {
        return None;
    }
    let (source, destination, protocol, offset, fragment) = match link.ether_type {
        packet::IPV4 => {
            let ip = packet::v4::header(data, link.offset);
            if !ip.addressed || ip.fault.is_some() {
                return None;
            }
            (ip.source.into(), ip.destination.into(), ip.protocol, ip.payload, ip.fragment)
        }
        packet::IPV6 => {
            let ip = packet::v6::header(data, link.offset);
            if !ip.addressed || ip.fault.is_some() {
                return None;
            }
            let upper = packet::v6::extensions(data, ip.next, ip.payload);
            if upper.fault.is_some() {
                return None;
            }
            let wide = |w: gateway_common::address::Wide| u128::from(w.high) << 64 | u128::from(w.low);
            (wide(ip.source), wide(ip.destination), upper.protocol, upper.offset, upper.fragment)
        }
        _ => return None,
    };
    let mut ports = None;
    if fragment == Fragment::Whole {
        let transport = packet::transport(data, protocol, offset);
        if transport.fault.is_some() {
            return None;
        }
        ports = matches!(protocol, TCP | UDP).then_some((transport.source, transport.destination));
    }
    let protocol = (fragment == Fragment::Whole).then_some(protocol);
    Some(Seen { source, destination, protocol, ports })
}

/// The view of etherparse; none where it finds fault, or walks another way.
fn theirs(data: &[u8]) -> Option<Seen> {
    let sliced = SlicedPacket::from_ethernet(data).ok()?;
    let (source, destination, protocol, fragmented) = match sliced.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            if header.protocol().0 == AUTHENTICATION {
                return None;
            }
            (
                u32::from(header.source_addr()).into(),
                u32::from(header.destination_addr()).into(),
                header.protocol().0,
                ip.is_payload_fragmented(),
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let number = ip.payload().ip_number.0;
            // It counts two reserved bits as part of the offset, and then leaves the transport header alone.
            if OURS_ONLY.contains(&number) || ip.is_payload_fragmented() != in_fragments(ip) {
                return None;
            }
            (
                u128::from(header.source_addr()),
                u128::from(header.destination_addr()),
                number,
                in_fragments(ip),
            )
        }
        NetSlice::Arp(_) => return None,
    };
    let ports = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) if !fragmented => Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) if !fragmented => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    };
    Some(Seen { source, destination, protocol: (!fragmented).then_some(protocol), ports })
}

/// Whether this is a fragment: an offset, or more to come (RFC 8200 section 4.5). etherparse 0.19 looks for both in other
/// bits than those, so its own word on it does not count.
fn in_fragments(ip: &Ipv6Slice<'_>) -> bool {
    ip.extensions().clone().into_iter().any(|extension| match extension {
        Ipv6ExtensionSlice::Fragment(f) => u16::from_be_bytes([f.slice()[2], f.slice()[3]]) & 0xfff9 != 0,
        _ => false,
    })
}

/// Runs of zeros seldom become a packet: the bytes go behind an Ethernet header of each kind as well.
fn check(data: &[u8]) {
    if let (Some(ours), Some(theirs)) = (ours(data), theirs(data)) {
        assert_eq!(ours, theirs, "ours, and that of etherparse");
        assert!(!matches!(ours.protocol, Some(ICMP | ICMP6)) || ours.ports.is_none());
    }
}

fuzz_target!(|data: &[u8]| {
    check(data);
    for (ether_type, version) in [([8, 0], 0x40), ([0x86, 0xdd], 0x60)] {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ether_type[0], ether_type[1]];
        frame.extend(data);
        if let Some(first) = frame.get_mut(14) {
            *first = version | *first & 15;
        }
        // The length that the header tells, made right.
        let rest = frame.len() - 14;
        if version == 0x40 && rest >= 20 {
            frame[16..18].copy_from_slice(&(rest.min(0xffff) as u16).to_be_bytes());
        } else if version == 0x60 && rest >= 40 {
            frame[18..20].copy_from_slice(&((rest - 40).min(0xffff) as u16).to_be_bytes());
        }
        check(&frame);
    }
});
