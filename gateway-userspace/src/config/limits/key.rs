//! What a limit counts by, and the patterns that say to what it applies.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// One part of a limit's key. A limit with several parts counts each combination apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyPart {
    /// The client's address, cut to the limit's prefix lengths.
    Address,
    /// The first value of a request header; the name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The first value of a query argument, as it stands in the URL.
    Query(String),
    /// The JA4 fingerprint of the TLS hello.
    Ja4,
    /// The subject of the client's certificate.
    Certificate,
    /// The country of the address, where there is a database.
    Country,
    /// The autonomous system of the address, where there is a database.
    Asn,
    /// The path with numbers, UUIDs and long hexadecimal segments replaced, so that
    /// `/orders/17` and `/orders/18` count together.
    Path,
    /// The name of the route.
    Route,
    /// The host asked for.
    Host,
    /// Everybody together.
    Global,
}

impl FromStr for KeyPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "`{text}` is not a key: write address, header:NAME, cookie:NAME, query:NAME, ja4, certificate, \
                 country, asn, path, route, host or global."
            )
        };
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        if let Some(name) = name {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | ';' | ',' | '=' | '&' | '"');
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return Err(format!(
                    "the name in `{text}` must have 1 to 64 visible characters, without : ; , = & or quotes."
                ));
            }
        }
        Ok(match (kind, name) {
            ("address", None) => Self::Address,
            ("header", Some(name)) => Self::Header(name.to_ascii_lowercase()),
            ("cookie", Some(name)) => Self::Cookie(name.to_owned()),
            ("query", Some(name)) => Self::Query(name.to_owned()),
            ("ja4", None) => Self::Ja4,
            ("certificate", None) => Self::Certificate,
            ("country", None) => Self::Country,
            ("asn", None) => Self::Asn,
            ("path", None) => Self::Path,
            ("route", None) => Self::Route,
            ("host", None) => Self::Host,
            ("global", None) => Self::Global,
            _ => return Err(unknown()),
        })
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Ja4 => f.write_str("ja4"),
            Self::Certificate => f.write_str("certificate"),
            Self::Country => f.write_str("country"),
            Self::Asn => f.write_str("asn"),
            Self::Path => f.write_str("path"),
            Self::Route => f.write_str("route"),
            Self::Host => f.write_str("host"),
            Self::Global => f.write_str("global"),
        }
    }
}

impl<'de> Deserialize<'de> for KeyPart {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A range of response statuses: `401`, `4xx` or `500-504`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest status meant.
    pub from: u16,
    /// The highest status meant.
    pub to: u16,
}

impl StatusRange {
    /// Whether `status` is meant.
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |t: &str| {
            let digits = t.len() == 3 && t.bytes().all(|b| b.is_ascii_digit());
            if digits { t.parse::<u16>().ok().filter(|n| (100..=599).contains(n)) } else { None }
        };
        let range = match text.split_once('-') {
            Some((from, to)) => number(from).zip(number(to)),
            None => match text.strip_suffix("xx") {
                Some(class) => number(&format!("{class}00")).map(|from| (from, from + 99)),
                None => number(text).map(|n| (n, n)),
            },
        };
        match range {
            Some((from, to)) if from <= to => Ok(Self { from, to }),
            _ => Err(format!("`{text}` is not a status: write such as 401, 4xx or 500-504 (100 to 599).")),
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A host that a limit applies to: a name, or `*.` and a name for everything below it. Lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// This name.
    Exact(String),
    /// Every name that ends with this text, which begins with a dot.
    Below(String),
}

impl HostPattern {
    /// Whether `host` (without a port, any case) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(suffix) => {
                host.len() > suffix.len()
                    && host
                        .as_bytes()
                        .get(host.len() - suffix.len()..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.to_ascii_lowercase();
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
            return Err(serde::de::Error::custom(format!(
                "`{text}` is not a host: write a name such as example.org, or *.example.org for all below it."
            )));
        }
        Ok(if name.len() == text.len() { Self::Exact(text) } else { Self::Below(format!(".{name}")) })
    }
}
