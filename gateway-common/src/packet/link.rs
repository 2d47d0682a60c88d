//! Ethernet and VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use super::Source;
use crate::reason::Reason;

/// VLAN tags that are followed.
pub const MAX_VLAN_TAGS: u32 = 2;

/// Ethernet type of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethernet type of IPv6.
pub const IPV6: u16 = 0x86dd;

/// Bytes of a header without tags.
pub const ETHERNET: u32 = 14;
const TAG: u32 = 4;

/// What an Ethernet frame carries, and at which offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Ethernet type of the payload; zero when there is a fault.
    pub ether_type: u16,
    /// Offset of the payload.
    pub offset: u32,
    /// [`Reason::Truncated`], or [`Reason::VlanDepth`] for a third tag.
    pub fault: Option<Reason>,
}

impl Link {
    const fn fault(reason: Reason) -> Self {
        Self { ether_type: 0, offset: 0, fault: Some(reason) }
    }
}

const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8 | 0x9100)
}

/// Parses Ethernet and VLAN headers.
#[inline(always)]
pub fn link<S: Source + ?Sized>(packet: &S) -> Link {
    let Some(header) = packet.window::<{ ETHERNET as usize }>(0) else {
        return Link::fault(Reason::Truncated);
    };
    let ether_type = header.u16(12);
    if ether_type == IPV4 || ether_type == IPV6 || !is_tag(ether_type) {
        return Link { ether_type, offset: ETHERNET, fault: None };
    }
    let Some(tag) = packet.window::<4>(ETHERNET) else { return Link::fault(Reason::Truncated) };
    let ether_type = tag.u16(2);
    if !is_tag(ether_type) {
        return Link { ether_type, offset: ETHERNET + TAG, fault: None };
    }
    let Some(tag) = packet.window::<4>(ETHERNET + TAG) else { return Link::fault(Reason::Truncated) };
    let ether_type = tag.u16(2);
    if is_tag(ether_type) {
        return Link::fault(Reason::VlanDepth);
    }
    Link { ether_type, offset: ETHERNET + 2 * TAG, fault: None }
}
