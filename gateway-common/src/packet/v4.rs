//! IPv4 (RFC 791).

use super::{Fragment, Source, TCP};
use crate::reason::Reason;

/// Bytes of a header without options.
pub const MIN_HEADER: u32 = 20;

/// What is needed of an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Position among fragments.
    pub fragment: Fragment,
    /// Offset in the frame of what follows the header.
    pub payload: u32,
    /// What is wrong with the packet, if anything.
    pub fault: Option<Reason>,
    /// True when the addresses are known; then the checks of the source come before the fault.
    pub addressed: bool,
}

const UNKNOWN: Header = Header {
    source: 0,
    destination: 0,
    protocol: 0,
    fragment: Fragment::Whole,
    payload: 0,
    fault: None,
    addressed: false,
};

/// Parses the header at `offset`.
#[inline(always)]
pub fn header<S: Source + ?Sized>(packet: &S, offset: u32) -> Header {
    let Some(ip) = packet.window::<{ MIN_HEADER as usize }>(offset) else {
        return Header { fault: Some(Reason::Truncated), ..UNKNOWN };
    };
    let first = ip.u8(0);
    if first >> 4 != 4 {
        return Header { fault: Some(Reason::Ipv4Header), ..UNKNOWN };
    }
    let header_length = (first as u32 & 15) * 4;
    let total = ip.u16(2) as u32;
    let fragment_word = ip.u16(6);
    let fragment_offset = fragment_word & 0x1fff;
    let more = fragment_word & 0x2000 != 0;
    let fragment = if !more && fragment_offset == 0 {
        Fragment::Whole
    } else if fragment_offset == 0 {
        Fragment::First
    } else {
        Fragment::Later
    };
    let fault = if header_length < MIN_HEADER || total < header_length {
        Some(Reason::Ipv4Header)
    } else if packet.length().is_some_and(|length| offset + total > length) {
        Some(Reason::Truncated)
    } else if bogus_source(ip.u32(12)) {
        Some(Reason::BogusSource)
    } else if fragment_offset == 1 && ip.u8(9) == TCP {
        // It would overwrite the flags of the first fragment's TCP header (RFC 1858 section 4).
        Some(Reason::TinyFragment)
    } else {
        None
    };
    Header {
        source: ip.u32(12),
        destination: ip.u32(16),
        protocol: ip.u8(9),
        fragment,
        payload: offset + header_length,
        fault,
        addressed: true,
    }
}

/// The header at `offset` of what nearly every IPv4 packet is: without options, not a fragment. `None` for any other, and for one
/// that ends early; [`header`] says what that is. The fault is left to [`plain_fault`], as the checks of the source come first.
#[inline(always)]
pub fn plain<S: Source + ?Sized>(packet: &S, offset: u32) -> Option<Header> {
    let ip = packet.window::<{ MIN_HEADER as usize }>(offset)?;
    // All of the fragment word but "don't fragment".
    if ip.u8(0) != 0x45 || ip.half(6) & u16::from_ne_bytes([0x3f, 0xff]) != 0 {
        return None;
    }
    Some(Header {
        source: ip.u32(12),
        destination: ip.u32(16),
        protocol: ip.u8(9),
        fragment: Fragment::Whole,
        payload: offset + MIN_HEADER,
        fault: None,
        addressed: true,
    })
}

/// What is wrong with a packet whose header at `offset` is [`plain`], beside a source that is [bogus](bogus_source).
#[inline(always)]
pub fn plain_fault<S: Source + ?Sized>(packet: &S, offset: u32) -> Option<Reason> {
    let Some(ip) = packet.window::<{ MIN_HEADER as usize }>(offset) else { return Some(Reason::Truncated) };
    let total = ip.u16(2) as u32;
    if total < MIN_HEADER {
        Some(Reason::Ipv4Header)
    } else if packet.length().is_some_and(|length| offset + total > length) {
        Some(Reason::Truncated)
    } else {
        None
    }
}

/// Runs of /24s, the first and how many, that hold every [bogus source](bogus_source).
pub const BOGUS_RUNS: [(u32, u32); 3] = [(0, 1 << 16), (127 << 16, 1 << 16), (224 << 16, 32 << 16)];

/// Sources that no router forwards: "this network" other than the unspecified address (which DHCP clients use),
/// loopback, multicast, reserved and broadcast (RFC 6890, RFC 1122 section 3.2.1.3).
#[inline(always)]
pub const fn bogus_source(address: u32) -> bool {
    // From 1.0.0.0 to 223.255.255.255: one comparison on the circle.
    if address.wrapping_sub(1 << 24) < 223 << 24 {
        return address >> 24 == 127;
    }
    address != 0
}
