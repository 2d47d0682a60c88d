//! IPv6 and its extension headers (RFC 8200).

use super::{Fragment, ICMP6, Source, TCP, UDP};
use crate::{address::Wide, reason::Reason};

/// Bytes of the fixed header.
pub const FIXED_HEADER: u32 = 40;
/// Hop limit of a packet that no router has forwarded, where the sender set it so (RFC 4861).
pub const ON_LINK: u8 = 255;
/// Extension headers that are followed.
pub const MAX_EXTENSIONS: u32 = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// What is needed of an IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: Wide,
    /// Destination address.
    pub destination: Wide,
    /// Protocol number of the next header.
    pub next: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Offset in the frame of what follows the fixed header.
    pub payload: u32,
    /// What is wrong with the packet, if anything.
    pub fault: Option<Reason>,
    /// True when the addresses are known; then the checks of the source come before the fault.
    pub addressed: bool,
}

const NOWHERE: Wide = Wide { high: 0, low: 0 };
const UNKNOWN: Header = Header {
    source: NOWHERE,
    destination: NOWHERE,
    next: 0,
    hop_limit: 0,
    payload: 0,
    fault: None,
    addressed: false,
};

/// Where the extension headers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// Protocol number of the upper layer.
    pub protocol: u8,
    /// Its offset in the frame.
    pub offset: u32,
    /// Position among fragments.
    pub fragment: Fragment,
    /// [`Reason::Truncated`], or [`Reason::ExtensionDepth`] for a seventh header.
    pub fault: Option<Reason>,
}

/// Parses the fixed header at `offset`.
#[inline(always)]
pub fn header<S: Source + ?Sized>(packet: &S, offset: u32) -> Header {
    let Some(ip) = packet.window::<{ FIXED_HEADER as usize }>(offset) else {
        return Header { fault: Some(Reason::Truncated), ..UNKNOWN };
    };
    if ip.u8(0) >> 4 != 6 {
        return Header { fault: Some(Reason::Ipv6Header), ..UNKNOWN };
    }
    let source = Wide { high: ip.u64(8), low: ip.u64(16) };
    let payload = offset + FIXED_HEADER;
    let fault = if packet.length().is_some_and(|length| payload + ip.u16(4) as u32 > length) {
        Some(Reason::Truncated)
    } else if bogus_source(source) {
        Some(Reason::BogusSource)
    } else {
        None
    };
    Header {
        source,
        destination: Wide { high: ip.u64(24), low: ip.u64(32) },
        next: ip.u8(6),
        hop_limit: ip.u8(7),
        payload,
        fault,
        addressed: true,
    }
}

/// The header at `offset` of what nearly every IPv6 packet is: with TCP, UDP or ICMPv6 right behind it. `None` for any other, and
/// for one without a whole header; [`header`] says what that is. The fault is left to [`plain_fault`], as the checks of the source come
/// first.
#[inline(always)]
pub fn plain<S: Source + ?Sized>(packet: &S, offset: u32) -> Option<Header> {
    let header = Header { fault: None, ..header(packet, offset) };
    (header.addressed && matches!(header.next, TCP | UDP | ICMP6)).then_some(header)
}

/// What is wrong with a packet whose header at `offset` is [`plain`], and has this source.
#[inline(always)]
pub fn plain_fault<S: Source + ?Sized>(packet: &S, offset: u32, source: Wide) -> Option<Reason> {
    let Some(ip) = packet.window::<{ FIXED_HEADER as usize }>(offset) else { return Some(Reason::Truncated) };
    if packet.length().is_some_and(|length| offset + FIXED_HEADER + ip.u16(4) as u32 > length) {
        Some(Reason::Truncated)
    } else if bogus_source(source) {
        Some(Reason::BogusSource)
    } else {
        None
    }
}

/// Walks the extension headers that start at `offset` with protocol `next`.
#[inline(always)]
pub fn extensions<S: Source + ?Sized>(packet: &S, next: u8, offset: u32) -> Upper {
    let mut upper = Upper { protocol: next, offset, fragment: Fragment::Whole, fault: None };
    let mut i = 0;
    while i < MAX_EXTENSIONS {
        if !is_extension(upper.protocol) {
            return upper;
        }
        let Some(extension) = packet.window::<8>(upper.offset) else {
            return Upper { fault: Some(Reason::Truncated), ..upper };
        };
        let length = match upper.protocol {
            FRAGMENT => {
                let word = extension.u16(2);
                if word & 0xfff8 != 0 {
                    upper.fragment = Fragment::Later;
                } else if word & 1 != 0 {
                    upper.fragment = Fragment::First;
                }
                8
            }
            AUTHENTICATION => (extension.u8(1) as u32 + 2) * 4,
            _ => (extension.u8(1) as u32 + 1) * 8,
        };
        upper.protocol = extension.u8(0);
        upper.offset += length;
        if matches!(upper.fragment, Fragment::Later) {
            return upper;
        }
        i += 1;
    }
    if is_extension(upper.protocol) {
        upper.fault = Some(Reason::ExtensionDepth);
    }
    upper
}

/// True for the headers that [`extensions`] walks over.
#[inline(always)]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
    )
}

/// Sources that no packet from the wire may have: multicast, loopback, IPv4-mapped (RFC 4291, RFC 6890).
#[inline(always)]
pub const fn bogus_source(address: Wide) -> bool {
    address.high >> 56 == 0xff || (address.high == 0 && (address.low == 1 || address.low >> 32 == 0xffff))
}
