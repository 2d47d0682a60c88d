//! Who must never be banned, and how wide a ban may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::client::IpNetwork;

/// Most networks that are guarded, own and operator-given together.
pub const MAX_GUARDED: usize = 16_384;

/// Why a network is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarded {
    /// On the allowlist of the configuration.
    Allowlist,
    /// Put on the allowlist by an operator.
    Operator,
    /// A proxy whose word about its clients is believed.
    TrustedProxy,
    /// Where operators come from.
    Management,
    /// An address of this host.
    Own,
    /// Loopback, link-local, multicast and unspecified: no client comes from there, the host's own traffic does.
    Special,
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowlist => "the allowlist of the configuration",
            Self::Operator => "the allowlist (`gateway allow list`)",
            Self::TrustedProxy => "the trusted proxies",
            Self::Management => "the management sources",
            Self::Own => "this host's own addresses",
            Self::Special => "the addresses that no client has (loopback, link-local, multicast)",
        })
    }
}

/// Why a ban was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefusal {
    /// The whole address space.
    #[error(
        "{0} is every address: nothing would be served. Name a network; to close a service, stop its listener."
    )]
    Everything(IpNetwork),
    /// Wider than the bound.
    #[error(
        "{network} is wider than /{bound}, the widest ban that `bans.widest_v4` and `bans.widest_v6` allow. Ban narrower networks, or raise the bound."
    )]
    TooWide {
        /// The network asked for.
        network: IpNetwork,
        /// The shortest prefix allowed, in bits.
        bound: u8,
    },
    /// It shares an address with a guarded network.
    #[error("{network} covers {entry}, which belongs to {why}: it is never banned.")]
    Guarded {
        /// The network asked for.
        network: IpNetwork,
        /// The guarded network.
        entry: IpNetwork,
        /// Why it is guarded.
        why: Guarded,
    },
}

/// Networks that are never banned, and the bound on a ban's width.
#[derive(Debug, Clone)]
pub struct Guard {
    entries: BTreeMap<IpNetwork, Guarded>,
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
    widest_v4: u8,
    widest_v6: u8,
}

/// Addresses that no client has: RFC 6890 and RFC 4291, those where a ban would cut the host itself.
const SPECIAL: [(IpAddr, u8); 7] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 127),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

impl Guard {
    /// A guard that knows the special addresses, and bans of at least `widest_v4` and `widest_v6` bits.
    pub fn new(widest_v4: u8, widest_v6: u8) -> Self {
        let mut guard = Self {
            entries: BTreeMap::new(),
            lengths_v4: BTreeSet::new(),
            lengths_v6: BTreeSet::new(),
            widest_v4,
            widest_v6,
        };
        for (addr, prefix) in SPECIAL {
            guard.put(IpNetwork::containing(addr, prefix), Guarded::Special);
        }
        guard
    }

    /// Guards more networks; what is already guarded keeps its reason. Past [`MAX_GUARDED`] nothing
    /// is added.
    #[must_use]
    pub fn with(mut self, networks: impl IntoIterator<Item = IpNetwork>, why: Guarded) -> Self {
        for network in networks {
            self.put(network, why);
        }
        self
    }

    /// Guards a network. False where it was guarded already or [`MAX_GUARDED`] is reached.
    pub fn put(&mut self, network: IpNetwork, why: Guarded) -> bool {
        let network = super::scope::canonical(network);
        if self.entries.len() >= MAX_GUARDED || self.entries.contains_key(&network) {
            return false;
        }
        self.entries.insert(network, why);
        if network.addr().is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 }
            .insert(network.prefix());
        true
    }

    /// Takes an operator's network off the list; those of the configuration stay. The prefix lengths
    /// known stay too: they cost a look-up, no more.
    pub fn take_off(&mut self, network: &IpNetwork) -> bool {
        let theirs = self.entries.get(network) == Some(&Guarded::Operator);
        if theirs {
            self.entries.remove(network);
        }
        theirs
    }

    /// Why an address is guarded, and by which network.
    pub fn guards(&self, addr: IpAddr) -> Option<(IpNetwork, Guarded)> {
        self.covering(IpNetwork::host(addr.to_canonical()))
    }

    /// Whether a scope may be banned.
    ///
    /// # Errors
    /// It is everything, too wide, or shares an address with a guarded network.
    pub fn check(&self, scope: &Scope) -> Result<(), GuardRefusal> {
        let Some(network) = scope.network() else { return Ok(()) };
        let bound = if network.addr().is_ipv4() { self.widest_v4 } else { self.widest_v6 };
        if network.prefix() == 0 {
            return Err(GuardRefusal::Everything(network));
        }
        if network.prefix() < bound {
            return Err(GuardRefusal::TooWide { network, bound });
        }
        match self.covering(network).or_else(|| self.inside(network)) {
            Some((entry, why)) => Err(GuardRefusal::Guarded { network, entry, why }),
            None => Ok(()),
        }
    }

    /// Whether a network of a list may be banned: lists may be wide, down to /8 and /16 bits, for
    /// they are checked by people, but they cover nobody who is guarded either.
    ///
    /// # Errors
    /// As [`Guard::check`].
    pub fn check_listed(&self, network: IpNetwork) -> Result<(), GuardRefusal> {
        let bound = if network.addr().is_ipv4() { 8 } else { 16 };
        if network.prefix() < bound {
            return Err(GuardRefusal::TooWide { network, bound });
        }
        match self.covering(network).or_else(|| self.inside(network)) {
            Some((entry, why)) => Err(GuardRefusal::Guarded { network, entry, why }),
            None => Ok(()),
        }
    }

    /// A guarded network that contains `network`.
    fn covering(&self, network: IpNetwork) -> Option<(IpNetwork, Guarded)> {
        let lengths = if network.addr().is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.range(..=network.prefix()).find_map(|length| {
            let wider = IpNetwork::containing(network.addr(), *length);
            self.entries.get(&wider).map(|why| (wider, *why))
        })
    }

    /// A guarded network inside `network`: networks sort by address, so the first one from its start on tells.
    fn inside(&self, network: IpNetwork) -> Option<(IpNetwork, Guarded)> {
        self.entries
            .range(network..)
            .next()
            .filter(|(entry, _)| network.contains(entry.addr()))
            .map(|(entry, why)| (*entry, *why))
    }

    /// What operators put on the allowlist.
    pub fn operators(&self) -> impl Iterator<Item = IpNetwork> {
        self.entries().filter(|(_, why)| *why == Guarded::Operator).map(|(network, _)| network)
    }

    /// Every guarded network with its reason, in order.
    pub fn entries(&self) -> impl Iterator<Item = (IpNetwork, Guarded)> {
        self.entries.iter().map(|(network, why)| (*network, *why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let net = |text: &str| text.parse::<IpNetwork>().expect("network");
        Guard::new(20, 40)
            .with([net("198.51.100.8"), net("2001:db8:1::/48")], Guarded::Allowlist)
            .with([net("10.0.0.0/8")], Guarded::TrustedProxy)
            .with([net("203.0.113.9")], Guarded::Management)
    }

    #[test]
    fn refusals_are_sentences() {
        let check = |scope: &str, expected: Option<&str>| {
            let got = guard().check(&scope.parse().expect("scope")).err().map(|e| e.to_string());
            match expected {
                None => assert_eq!(got, None, "{scope}"),
                Some(part) => {
                    assert!(got.as_deref().is_some_and(|g| g.contains(part)), "{scope}: {got:?}");
                }
            }
        };
        check("192.0.2.1", None);
        check("192.0.2.0/24", None);
        check("2001:db8:2::/64", None);
        check("ja4:abc", None);
        check("0.0.0.0/0", Some("is every address"));
        check("::/0", Some("is every address"));
        check("192.0.0.0/19", Some("wider than /20"));
        check("2001:d00::/24", Some("wider than /40"));
        check("198.51.100.8", Some("allowlist of the configuration"));
        check("198.51.100.0/24", Some("covers 198.51.100.8, which belongs to the allowlist"));
        check("10.1.2.0/24", Some("covers 10.0.0.0/8, which belongs to the trusted proxies"));
        check("203.0.113.9", Some("management sources"));
        check("127.0.0.1", Some("addresses that no client has"));
        check("::1", Some("addresses that no client has"));
        check("fe80::1", Some("addresses that no client has"));
        check("::ffff:10.1.2.3", Some("trusted proxies"));
        check("2001:db8:1:2::/64", Some("2001:db8:1::/48"));
        check("2001:db8::/40", Some("2001:db8:1::/48"));
    }

    #[test]
    fn only_an_operators_entry_can_be_taken_off() {
        let mut guard = guard();
        let own: IpNetwork = "192.0.2.7".parse().expect("network");
        assert!(guard.put(own, Guarded::Operator));
        assert!(!guard.put(own, Guarded::Operator));
        assert_eq!(guard.guards(own.addr()), Some((own, Guarded::Operator)));
        assert!(guard.take_off(&own));
        assert_eq!(guard.guards(own.addr()), None);
        assert!(!guard.take_off(&"10.0.0.0/8".parse().expect("network")));
    }
}
