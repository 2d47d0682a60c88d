//! The packet parser: Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with up to six extension headers,
//! TCP, UDP, ICMP.
//!
//! It goes in steps, [`link()`], then [`v4::header`] or [`v6::header`] (then [`v6::extensions`]), then [`transport()`],
//! because the checks of the source come as soon as the source is known, whatever follows in the packet. Each step
//! returns plain fields, the fault among them (a [`Reason`](crate::reason::Reason)): a `Result` leaves part of itself unwritten,
//! and LLVM moves such bits about, which the kernel's verifier refuses.

mod link;
mod transport;
pub mod v4;
pub mod v6;
mod window;

pub use link::{ETHERNET, IPV4, IPV6, Link, MAX_VLAN_TAGS, link};
pub use transport::{
    ACK, FIN, ICMP, ICMP6, RST, SYN, TCP, Transport, UDP, is_new_connection, tcp, transport,
};
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
