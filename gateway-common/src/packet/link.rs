//! Ethernet and VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use super::Source;
use crate::reason::Reason;

/// VLAN tags that are followed.
pub const MAX_VLAN_TAGS: u32 = 2;

const ETHERNET: u32 = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// What an Ethernet frame carries, and at which offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// IPv4 from this offset.
    V4(u32),
    /// IPv6 from this offset.
    V6(u32),
    /// Something else: ARP, LLDP, a length of IEEE 802.2.
    Other(u16),
}

const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8 | 0x9100)
}

/// Parses Ethernet and VLAN headers.
///
/// # Errors
/// [`Reason::Truncated`], or [`Reason::VlanDepth`] for a third tag.
#[inline(always)]
pub fn link<S: Source + ?Sized>(packet: &S) -> Result<Link, Reason> {
    let Some(header) = packet.window::<{ ETHERNET as usize }>(0) else { return Err(Reason::Truncated) };
    let ether_type = header.u16(12);
    if !is_tag(ether_type) {
        return Ok(inner(ether_type, ETHERNET));
    }
    let Some(tag) = packet.window::<4>(ETHERNET) else { return Err(Reason::Truncated) };
    let ether_type = tag.u16(2);
    if !is_tag(ether_type) {
        return Ok(inner(ether_type, ETHERNET + 4));
    }
    let Some(tag) = packet.window::<4>(ETHERNET + 4) else { return Err(Reason::Truncated) };
    let ether_type = tag.u16(2);
    if is_tag(ether_type) {
        return Err(Reason::VlanDepth);
    }
    Ok(inner(ether_type, ETHERNET + 8))
}

#[inline(always)]
const fn inner(ether_type: u16, offset: u32) -> Link {
    match ether_type {
        IPV4 => Link::V4(offset),
        IPV6 => Link::V6(offset),
        other => Link::Other(other),
    }
}
