//! The words that scenarios are written in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of an offence: what scenarios count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffenceKind {
    /// The WAF refused (or would have refused) a request.
    Waf,
    /// A rate limit refused a request.
    Limit,
    /// The origin refused credentials on a route that counts this.
    Authentication,
    /// A request for what is not there.
    NotFound,
    /// A request for a path that only scanners ask for.
    Honeypot,
    /// The peer broke HTTP.
    Protocol,
    /// A TLS handshake failed.
    Handshake,
    /// The peer sent or read too slowly.
    Slow,
    /// The kernel's per-source limit was passed again and again.
    KernelLimit,
}

impl OffenceKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Waf,
        Self::Limit,
        Self::Authentication,
        Self::NotFound,
        Self::Honeypot,
        Self::Protocol,
        Self::Handshake,
        Self::Slow,
        Self::KernelLimit,
    ];

    /// As written in the configuration and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waf => "waf",
            Self::Limit => "limit",
            Self::Authentication => "authentication",
            Self::NotFound => "not-found",
            Self::Honeypot => "honeypot",
            Self::Protocol => "protocol",
            Self::Handshake => "handshake",
            Self::Slow => "slow",
            Self::KernelLimit => "kernel-limit",
        }
    }
}

impl fmt::Display for OffenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is done to a client that a decision covers, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Recorded only.
    Observe,
    /// Layer 7 asks for a proof of good faith before it serves.
    Challenge,
    /// Layer 7 refuses.
    L7Deny,
    /// The kernel drops, and layer 7 refuses what gets there another way.
    KernelBan,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Challenge => "challenge",
            Self::L7Deny => "l7-deny",
            Self::KernelBan => "kernel-ban",
        })
    }
}

/// Whose offences a bucket collects, and so what its decision covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// One address: /32, /128.
    Address,
    /// One subscriber: /32, and in IPv6 the /64 that a provider hands to one line.
    #[default]
    Client,
    /// A neighbourhood: /24, /48.
    Network,
    /// An autonomous system; needs the ASN database.
    Asn,
    /// A TLS fingerprint. Thousands of strangers share one: observe, or challenge.
    Ja4,
}
