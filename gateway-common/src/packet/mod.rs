//! The packet parser: Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with up to six extension headers,
//! TCP, UDP, ICMP.
//!
//! It goes in steps, [`link()`], then [`v4::header`] or [`v6::header`] (then [`v6::extensions`]), then [`transport()`],
//! because the checks of the source come as soon as the source is known, whatever follows in the packet. Each step
//! returns the [`Reason`](crate::reason::Reason) that a packet is counted under when it breaks the format.

mod link;
mod transport;
pub mod v4;
pub mod v6;
mod window;

pub use link::{Link, MAX_VLAN_TAGS, link};
pub use transport::{ACK, FIN, RST, SYN, Transport, transport};
pub use window::{Source, Window};

/// Where a packet stands in a fragmented datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not a fragment.
    Whole,
    /// The first one: the transport header is here.
    First,
    /// A later one: no transport header.
    Later,
}

#[cfg(test)]
mod tests;
