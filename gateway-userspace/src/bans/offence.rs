//! What a client did wrong.

use super::OffenceKind;
use crate::client::ClientId;

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
