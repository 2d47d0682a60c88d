//! Who the client is, and whether the kernel can act on it.
//!
//! A [`ClientId`] is made once for each request, from the socket's peer and, when that peer is a
//! trusted proxy, from what it forwarded. Everything behind this module (limits, WAF, bans, logs)
//! speaks of this value alone.

mod forwarded;
mod network;
pub mod proxy_protocol;

use std::net::IpAddr;

pub use forwarded::{ForwardedError, ForwardedHeader, MAX_HOPS, Trust};
pub use network::{IpNetwork, NetworkError, anonymous};

/// Whether packets of this client carry its own address, so that the kernel can drop them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The socket's peer is the client itself: a ban in the kernel hits it and nobody else.
    Direct,
    /// The client stands behind a trusted proxy at this address: only layer 7 may refuse it.
    Behind(IpAddr),
}

/// The client of one request. Addresses are canonical: an IPv4-mapped IPv6 address is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    addr: IpAddr,
    reach: Reach,
}

impl ClientId {
    /// A client that connected itself.
    pub fn direct(peer: IpAddr) -> Self {
        Self { addr: peer.to_canonical(), reach: Reach::Direct }
    }

    /// A client that a trusted proxy named.
    pub fn behind(proxy: IpAddr, client: IpAddr) -> Self {
        Self { addr: client.to_canonical(), reach: Reach::Behind(proxy.to_canonical()) }
    }

    /// The client's own address.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// How the client reaches this host.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The address that the kernel may ban for what this client did; `None` behind a proxy.
    pub fn kernel_target(&self) -> Option<IpAddr> {
        match self.reach {
            Reach::Direct => Some(self.addr),
            Reach::Behind(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_direct_client_is_a_kernel_target() {
        let v4: IpAddr = "192.0.2.1".parse().expect("address");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("address");
        assert_eq!(ClientId::direct(mapped).kernel_target(), Some(v4));
        assert_eq!(ClientId::behind(v4, "2001:db8::1".parse().expect("address")).kernel_target(), None);
    }
}
