//! Port policy. TCP is judged on the packet that opens a connection only, so replies to the host's own connections pass.

use gateway_common::{
    packet::{ICMP, ICMP6, TCP, UDP},
    ports,
    reason::Reason,
};

use crate::{maps, verdict::Finding};

/// The finding, if the destination is closed.
#[inline(always)]
pub fn closed(protocol: u8, destination: u16) -> Finding {
    let (first, index, reason) = match protocol {
        TCP => (ports::TCP, u32::from(destination), Reason::Port),
        UDP => (ports::UDP, u32::from(destination), Reason::Port),
        ICMP => (ports::ICMP, u32::from(destination >> 8), Reason::IcmpType),
        ICMP6 => (ports::ICMP6, u32::from(destination >> 8), Reason::IcmpType),
        other => (ports::PROTOCOLS, u32::from(other), Reason::Protocol),
    };
    if maps::ports(first + index / 64) >> (index % 64) & 1 != 0 {
        Finding::new(reason)
    } else {
        Finding::NONE
    }
}
