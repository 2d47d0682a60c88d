//! IPv4 (RFC 791).

use super::{Fragment, Source};
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
    /// Offset of the fragment in units of 8 bytes.
    pub fragment_offset: u16,
    /// Offset in the frame of what follows the header.
    pub payload: u32,
    /// The fault found after the addresses were known, if any.
    pub fault: Option<Reason>,
}

/// Parses the header at `offset`. Once the addresses could be read, faults are left in [`Header::fault`], because the
/// checks of the source come first.
///
/// # Errors
/// [`Reason::Truncated`] or [`Reason::Ipv4Header`] when there are no addresses to check.
#[inline(always)]
pub fn header<S: Source + ?Sized>(packet: &S, offset: u32) -> Result<Header, Reason> {
    let Some(ip) = packet.window::<{ MIN_HEADER as usize }>(offset) else { return Err(Reason::Truncated) };
    let first = ip.u8(0);
    if first >> 4 != 4 {
        return Err(Reason::Ipv4Header);
    }
    let header_length = (first as u32 & 15) * 4;
    let total = ip.u16(2) as u32;
    let fragment_word = ip.u16(6);
    let fragment_offset = fragment_word & 0x1fff;
    let fragment = if fragment_word & 0x3fff == 0 {
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
    } else {
        None
    };
    Ok(Header {
        source: ip.u32(12),
        destination: ip.u32(16),
        protocol: ip.u8(9),
        fragment,
        fragment_offset,
        payload: offset + header_length,
        fault,
    })
}

/// Sources that no router forwards: "this network" other than the unspecified address (which DHCP clients use),
/// loopback, multicast, reserved and broadcast (RFC 6890, RFC 1122 section 3.2.1.3).
#[inline(always)]
pub const fn bogus_source(address: u32) -> bool {
    let top = address >> 24;
    top == 127 || top >= 224 || (top == 0 && address != 0)
}
