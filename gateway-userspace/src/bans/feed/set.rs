//! A set of networks that answers for an address, and the sets of all feeds as layer 7 reads them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::bans::Action;
use crate::client::IpNetwork;

/// Sorted networks and the prefix lengths among them: an answer is a binary search a length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSet {
    networks: Vec<IpNetwork>,
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl NetworkSet {
    /// The set of these networks.
    pub fn new(mut networks: Vec<IpNetwork>) -> Self {
        networks.sort_unstable();
        networks.dedup();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in &networks {
            let lengths = if network.addr().is_ipv4() { &mut v4 } else { &mut v6 };
            if let Err(place) = lengths.binary_search(&network.prefix()) {
                lengths.insert(place, network.prefix());
            }
        }
        Self { networks, v4, v6 }
    }

    /// The networks, sorted.
    pub fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }

    /// The widest network that contains an address.
    pub fn find(&self, addr: IpAddr) -> Option<IpNetwork> {
        let addr = addr.to_canonical();
        let lengths = if addr.is_ipv4() { &self.v4 } else { &self.v6 };
        lengths
            .iter()
            .map(|length| IpNetwork::containing(addr, *length))
            .find(|network| self.networks.binary_search(network).is_ok())
    }
}

/// One feed as it stands.
#[derive(Debug, Clone)]
pub struct FeedSet {
    /// The feed.
    pub name: Arc<str>,
    /// What it does.
    pub action: Action,
    /// Its networks, those that are guarded left out.
    pub set: Arc<NetworkSet>,
    /// When it was taken in, in Unix milliseconds.
    pub since_ms: u64,
}

/// Every feed that lists an address, with the network.
pub fn listed(feeds: &[FeedSet], addr: IpAddr) -> Vec<(&FeedSet, IpNetwork)> {
    feeds.iter().filter_map(|feed| feed.set.find(addr).map(|network| (feed, network))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_every_length() {
        let networks = ["192.0.2.0/24", "192.0.2.7", "198.51.100.0/22", "2001:db8::/32", "2001:db8:1::1"];
        let set = NetworkSet::new(networks.map(|n| n.parse().expect("network")).into());
        for (addr, expected) in [
            ("192.0.2.7", Some("192.0.2.0/24")),
            ("198.51.103.255", Some("198.51.100.0/22")),
            ("198.51.104.0", None),
            ("::ffff:192.0.2.1", Some("192.0.2.0/24")),
            ("2001:db8:1::1", Some("2001:db8::/32")),
            ("2001:db9::1", None),
        ] {
            let found = set.find(addr.parse().expect("address")).map(|n| n.to_string());
            assert_eq!(found.as_deref(), expected, "{addr}");
        }
    }
}
