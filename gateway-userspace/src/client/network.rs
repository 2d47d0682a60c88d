//! IP networks in CIDR form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IPv4 or IPv6 network; host bits are zero. A lone address is a /32 or /128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpNetwork {
    addr: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The part before the slash is not an address.
    #[error("`{0}` is not an IP address or a CIDR network such as 192.0.2.0/24")]
    Address(String),
    /// The prefix is not a number, or longer than the address.
    #[error("`{0}` has a bad prefix length: 0 to 32 for IPv4, 0 to 128 for IPv6")]
    Prefix(String),
    /// Bits beyond the prefix are set.
    #[error("`{given}` has host bits set: did you mean {meant}?")]
    HostBits {
        /// The text as given.
        given: String,
        /// The network that contains it.
        meant: String,
    },
}

impl IpNetwork {
    /// The network of `prefix` bits that contains `addr`; the prefix is clamped to the address's length.
    pub fn containing(addr: IpAddr, prefix: u8) -> Self {
        match addr {
            IpAddr::V4(a) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { addr: IpAddr::V4(Ipv4Addr::from(u32::from(a) & mask)), prefix }
            }
            IpAddr::V6(a) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { addr: IpAddr::V6(Ipv6Addr::from(u128::from(a) & mask)), prefix }
            }
        }
    }

    /// The network of one host.
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, prefix: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// The first address.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Prefix length in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether this is a single address.
    pub fn is_host(&self) -> bool {
        self.prefix == if self.addr.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `addr` lies in the network. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_ipv4() == self.addr.is_ipv4() && Self::containing(addr, self.prefix).addr == self.addr
    }

    /// Whether the two networks share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix { self.contains(other.addr) } else { other.contains(self.addr) }
    }
}

impl FromStr for IpNetwork {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| NetworkError::Address(text.to_owned()))?;
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|p| *p <= longest)
                .ok_or_else(|| NetworkError::Prefix(text.to_owned()))?,
            Some(_) => return Err(NetworkError::Prefix(text.to_owned())),
        };
        let network = Self::containing(addr, prefix);
        if network.addr == addr {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { given: text.to_owned(), meant: network.to_string() })
        }
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { write!(f, "{}", self.addr) } else { write!(f, "{}/{}", self.addr, self.prefix) }
    }
}

impl<'de> Deserialize<'de> for IpNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for IpNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The network that an address is reduced to where nobody may be told apart: /24 in IPv4, /48 in IPv6.
pub fn anonymous(addr: IpAddr) -> IpNetwork {
    let addr = addr.to_canonical();
    IpNetwork::containing(addr, if addr.is_ipv4() { 24 } else { 48 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, expected) in [
            ("192.0.2.0/24", Ok("192.0.2.0/24")),
            ("192.0.2.7", Ok("192.0.2.7")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("::/0", Ok("::/0")),
            ("192.0.2.7/24", Err("`192.0.2.7/24` has host bits set: did you mean 192.0.2.0/24?")),
            (
                "192.0.2.0/33",
                Err("`192.0.2.0/33` has a bad prefix length: 0 to 32 for IPv4, 0 to 128 for IPv6"),
            ),
            (
                "192.0.2.0/+8",
                Err("`192.0.2.0/+8` has a bad prefix length: 0 to 32 for IPv4, 0 to 128 for IPv6"),
            ),
            ("nine", Err("`nine` is not an IP address or a CIDR network such as 192.0.2.0/24")),
        ] {
            let got = text.parse::<IpNetwork>().map(|n| n.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn contains_and_overlaps() {
        let check = |network: &str, addr: &str, expected: bool| {
            let network: IpNetwork = network.parse().expect("network");
            assert_eq!(network.contains(addr.parse().expect("address")), expected, "{network} {addr}");
        };
        check("192.0.2.0/24", "192.0.2.255", true);
        check("192.0.2.0/24", "192.0.3.0", false);
        check("192.0.2.0/24", "::ffff:192.0.2.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "2001:db8::1", true);
        let wide: IpNetwork = "10.0.0.0/8".parse().expect("network");
        assert!(wide.overlaps(&"10.1.0.0/16".parse().expect("network")));
        assert!(!wide.overlaps(&"11.0.0.0/16".parse().expect("network")));
    }
}
