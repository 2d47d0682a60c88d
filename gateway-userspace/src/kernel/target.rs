//! What a ban, an allowlist entry or a feed entry covers.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::{Duration, SystemTime},
};

use gateway_common::address::Wide;
use thiserror::Error;

/// An address or a prefix of either family. Bits after the prefix are always zero; an IPv4-mapped IPv6 address is the
/// IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    address: Wide,
    /// Prefix length in 128 bits: an IPv4 /24 is 120.
    length: u8,
}

/// Bits before the IPv4 part of a mapped address.
const MAPPED_BITS: u8 = 96;

impl Target {
    /// The prefix of `length` bits around an address.
    ///
    /// # Errors
    /// When the length is more than the family has bits.
    pub fn prefix(address: IpAddr, length: u8) -> Result<Self, TargetError> {
        let host = Self::from(address);
        let bits = if host.is_v4() { 32 } else { 128 };
        let offset = match address {
            // A mapped IPv6 address was written with the length of an IPv6 prefix.
            IpAddr::V6(_) if host.is_v4() => 0,
            IpAddr::V4(_) => MAPPED_BITS,
            IpAddr::V6(_) => 0,
        };
        let wide = length.checked_add(offset).filter(|wide| *wide <= 128);
        match wide {
            Some(wide) if !host.is_v4() || wide >= MAPPED_BITS => Ok(Self::of(host.address, wide)),
            _ => Err(TargetError { text: format!("{address}/{length}"), bits }),
        }
    }

    pub(super) const fn of(address: Wide, length: u8) -> Self {
        Self { address: address.masked(length as u32), length }
    }

    /// True for IPv4.
    pub const fn is_v4(&self) -> bool {
        self.length >= MAPPED_BITS && self.address.as_v4().is_some()
    }

    /// The single IPv4 host this is, if it is one.
    pub(super) const fn v4_host(&self) -> Option<u32> {
        if self.length == 128 { self.address.as_v4() } else { None }
    }

    /// First address, in the form of the tables.
    pub(super) const fn wide(&self) -> Wide {
        self.address
    }

    /// Length in 128 bits.
    pub(super) const fn wide_length(&self) -> u32 {
        self.length as u32
    }

    /// Prefix length of its own family: 0 to 32, or 0 to 128.
    pub const fn length(&self) -> u8 {
        if self.is_v4() { self.length - MAPPED_BITS } else { self.length }
    }

    /// First address.
    pub const fn address(&self) -> IpAddr {
        match self.address.as_v4() {
            Some(v4) if self.is_v4() => IpAddr::V4(Ipv4Addr::from_bits(v4)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(
                ((self.address.high as u128) << 64) | self.address.low as u128,
            )),
        }
    }

    /// True when every address of `other` is in this.
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && other.address.masked(self.length as u32) == self.address
    }
}

impl From<IpAddr> for Target {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self { address: Wide::mapped(v4.to_bits()), length: 128 },
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Self { address: Wide { high: (bits >> 64) as u64, low: bits as u64 }, length: 128 }
            }
        }
    }
}

/// A text that is neither an address nor a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is neither an address nor a prefix like 192.0.2.0/24 or 2001:db8::/32 (at most /{bits})")]
pub struct TargetError {
    text: String,
    bits: u8,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = || TargetError { text: text.to_owned(), bits: if text.contains(':') { 128 } else { 32 } };
        match text.split_once('/') {
            None => text.parse::<IpAddr>().map(Self::from).map_err(|_| error()),
            Some((address, length)) => {
                let address = address.parse().map_err(|_| error())?;
                if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(error());
                }
                Self::prefix(address, length.parse().map_err(|_| error())?).map_err(|_| error())
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == 128 {
            write!(f, "{}", self.address())
        } else {
            write!(f, "{}/{}", self.address(), self.length())
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// When a ban ends. The grain is 64 to 160 ms; a ban never ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// After this long.
    In(Duration),
    /// At this moment of the wall clock; one in the past makes the ban void at once.
    At(SystemTime),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_round() {
        for (text, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7/32", Some("192.0.2.7")),
            ("192.0.2.7/24", Some("192.0.2.0/24")),
            ("10.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("2001:db8::1/64", Some("2001:db8::/64")),
            ("2001:db8::1/128", Some("2001:db8::1")),
            ("::/0", Some("::/0")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7/120", Some("192.0.2.0/24")),
            ("::ffff:192.0.2.7/64", None),
            ("192.0.2.7/33", None),
            ("192.0.2.7/", None),
            ("192.0.2.7/+8", None),
            ("2001:db8::/129", None),
            ("2001:db8::/1000", None),
            ("name", None),
            ("", None),
        ] {
            let got = text.parse::<Target>().ok().map(|target| target.to_string());
            assert_eq!(got.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn covering() {
        for (a, b, covers) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/8", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8::/32", true),
        ] {
            let (a, b): (Target, Target) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.covers(&b), covers, "{a} {b}");
        }
    }
}
