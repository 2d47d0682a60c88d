//! Packets, built from the inside out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const ACK: u8 = 16;

/// A TCP header without options.
pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    out.extend(source.to_be_bytes());
    out.extend(destination.to_be_bytes());
    out.extend(1u32.to_be_bytes());
    out.extend(0u32.to_be_bytes());
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out
}

/// A UDP header and its payload.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend(source.to_be_bytes());
    out.extend(destination.to_be_bytes());
    out.extend((8 + payload.len() as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}

/// An ICMP message of eight bytes.
pub fn icmp(kind: u8, code: u8) -> Vec<u8> {
    vec![kind, code, 0, 0, 0, 1, 0, 1]
}

/// An IPv4 packet. `options` are padded to four bytes.
pub fn ipv4_with(
    source: Ipv4Addr,
    protocol: u8,
    fragment_word: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len().next_multiple_of(4);
    let mut out = vec![0x40 | (header / 4) as u8, 0];
    out.extend(((header + payload.len()) as u16).to_be_bytes());
    out.extend([0, 7]);
    out.extend(fragment_word.to_be_bytes());
    out.extend([64, protocol, 0, 0]);
    out.extend(source.octets());
    out.extend([203, 0, 113, 1]);
    out.extend(options);
    out.resize(header, 0);
    out.extend(payload);
    out
}

/// An IPv4 packet without options or fragmentation.
pub fn ipv4(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(source, protocol, 0, &[], payload)
}

/// An IPv6 packet whose payload begins with what `next` says.
pub fn ipv6(source: Ipv6Addr, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend([next, hop_limit]);
    out.extend(source.octets());
    out.extend(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).octets());
    out.extend(payload);
    out
}

/// An extension header of `8 * units` bytes before `payload`.
pub fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8 * units as usize];
    out[0] = next;
    out[1] = units - 1;
    out.extend(payload);
    out
}

/// An IPv6 fragment header before `payload`; `offset` in units of eight bytes.
pub fn fragment6(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![next, 0];
    out.extend((offset << 3 | u16::from(more)).to_be_bytes());
    out.extend([0, 0, 0, 9]);
    out.extend(payload);
    out
}

/// An IPv6 authentication header (`4 * (2 + length)` bytes) before `payload`.
pub fn authentication(next: u8, length: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4 * (2 + length as usize)];
    out[0] = next;
    out[1] = length;
    out.extend(payload);
    out
}

/// An Ethernet frame with VLAN tags.
pub fn frame_tagged(tags: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        out.extend(tag.to_be_bytes());
        out.extend([0, 5]);
    }
    out.extend(ether_type.to_be_bytes());
    out.extend(payload);
    out
}

/// An Ethernet frame around an IP packet, by its version.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    frame_tagged(&[], ether_type(packet), packet)
}

/// The Ethernet type for an IP packet.
pub fn ether_type(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }
}

/// A whole frame with a TCP segment from `source` to port 443.
pub fn tcp_from(source: impl Into<IpAddr>, flags: u8) -> Vec<u8> {
    with_payload(source.into(), 6, &tcp(40_000, 443, flags))
}

/// A whole frame with a UDP datagram from `source` to port 443.
pub fn udp_from(source: impl Into<IpAddr>, payload: &[u8]) -> Vec<u8> {
    with_payload(source.into(), 17, &udp(40_000, 443, payload))
}

/// A whole frame with any protocol.
pub fn with_payload(source: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match source {
        IpAddr::V4(v4) => frame(&ipv4(v4, protocol, payload)),
        IpAddr::V6(v6) => frame(&ipv6(v6, protocol, 64, payload)),
    }
}
