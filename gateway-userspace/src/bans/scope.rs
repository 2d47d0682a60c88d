//! What a decision covers: a network, an autonomous system, a country or a TLS fingerprint.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::client::{IpNetwork, NetworkError};

/// Longest JA4 fingerprint that is kept, in bytes (a JA4 has 36).
pub const MAX_JA4_BYTES: usize = 64;

/// What a decision covers. Written as `192.0.2.0/24`, `asn:64500`, `country:FR` or `ja4:t13d1516h2_…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Addresses: the one kind that the kernel can act on.
    Network(IpNetwork),
    /// Every client of an autonomous system; layer 7 only.
    Asn(u32),
    /// Every client of a country, by its two letters (ISO 3166-1); layer 7 only.
    Country([u8; 2]),
    /// Every client with this JA4 fingerprint; layer 7 only.
    Ja4(Arc<str>),
}

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not an address nor a network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Not a number after `asn:`.
    #[error("`{0}` is not an autonomous system: write asn: and its number, such as asn:64500")]
    Asn(String),
    /// Not two letters after `country:`.
    #[error("`{0}` is not a country: write country: and two letters, such as country:FR")]
    Country(String),
    /// Nothing or too much after `ja4:`.
    #[error(
        "`{0}` is not a JA4 fingerprint: write ja4: and 1 to {MAX_JA4_BYTES} letters, digits or underscores"
    )]
    Ja4(String),
}

impl Scope {
    /// The network, where the scope is one.
    pub fn network(&self) -> Option<IpNetwork> {
        match self {
            Self::Network(network) => Some(*network),
            Self::Asn(_) | Self::Country(_) | Self::Ja4(_) => None,
        }
    }

    /// Whether an address lies in the scope; always false for other scopes than networks.
    pub fn covers(&self, addr: IpAddr) -> bool {
        self.network().is_some_and(|n| n.contains(addr))
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if let Some(number) = text.strip_prefix("asn:") {
            return number.parse().map(Self::Asn).map_err(|_| ScopeError::Asn(text.to_owned()));
        }
        if let Some(code) = text.strip_prefix("country:") {
            return country(code)
                .map(Self::Country)
                .ok_or_else(|| ScopeError::Country(text.chars().take(MAX_JA4_BYTES).collect()));
        }
        if let Some(ja4) = text.strip_prefix("ja4:") {
            let plain = ja4.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return if plain && (1..=MAX_JA4_BYTES).contains(&ja4.len()) {
                Ok(Self::Ja4(ja4.into()))
            } else {
                Err(ScopeError::Ja4(text.chars().take(MAX_JA4_BYTES).collect()))
            };
        }
        Ok(Self::Network(canonical(text.parse()?)))
    }
}

/// A country's two letters, in upper case.
pub fn country(code: &str) -> Option<[u8; 2]> {
    let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
    letters.iter().all(u8::is_ascii_alphabetic).then(|| letters.map(|letter| letter.to_ascii_uppercase()))
}

/// The IPv4 network that an IPv4-mapped IPv6 one stands for; others as they are.
pub fn canonical(network: IpNetwork) -> IpNetwork {
    match (network.addr(), network.prefix()) {
        (IpAddr::V6(addr), prefix @ 96..) => match addr.to_ipv4_mapped() {
            Some(v4) => IpNetwork::containing(IpAddr::V4(v4), prefix - 96),
            None => network,
        },
        _ => network,
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Asn(number) => write!(f, "asn:{number}"),
            Self::Country([first, second]) => {
                write!(f, "country:{}{}", char::from(*first), char::from(*second))
            }
            Self::Ja4(ja4) => write!(f, "ja4:{ja4}"),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for (text, expected) in [
            ("192.0.2.0/24", Ok("192.0.2.0/24")),
            ("192.0.2.7/32", Ok("192.0.2.7")),
            ("::ffff:192.0.2.7", Ok("192.0.2.7")),
            ("::ffff:192.0.2.0/120", Ok("192.0.2.0/24")),
            ("asn:64500", Ok("asn:64500")),
            ("country:fr", Ok("country:FR")),
            (
                "country:FRA",
                Err("`country:FRA` is not a country: write country: and two letters, such as country:FR"),
            ),
            ("ja4:t13d1516h2_8daaf6152771_02713d6af862", Ok("ja4:t13d1516h2_8daaf6152771_02713d6af862")),
            (
                "asn:x",
                Err("`asn:x` is not an autonomous system: write asn: and its number, such as asn:64500"),
            ),
            (
                "ja4:a b",
                Err(
                    "`ja4:a b` is not a JA4 fingerprint: write ja4: and 1 to 64 letters, digits or underscores",
                ),
            ),
        ] {
            let got = text.parse::<Scope>().map(|s| s.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
