//! What a client did wrong.

use crate::client::ClientId;

/// The kind of an offence: what scenarios count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
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

/// One offence, as the pipeline hands it to the bans task through a bounded queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub client: ClientId,
    /// What.
    pub kind: OffenceKind,
    /// How grave: the anomaly score of a WAF offence, else 1.
    pub weight: u32,
    /// The rule ids (WAF) that matched; at most [`Offence::MAX_RULES`].
    pub rules: Vec<u64>,
    /// The limit's, route's or listener's name, where there is one.
    pub subject: Option<std::sync::Arc<str>>,
    /// The request's id, where there was a request.
    pub request_id: Option<std::sync::Arc<str>>,
    /// The JA4 fingerprint of the client's TLS hello, where there was one.
    pub ja4: Option<std::sync::Arc<str>>,
}

impl Offence {
    /// Most rule ids that one offence carries; further ones are dropped.
    pub const MAX_RULES: usize = 16;
}
