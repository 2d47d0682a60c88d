//! The transaction as the caller sees it.

use std::sync::Arc;

use super::{
    context::{Connection, Scores, Services},
    matched::MatchedRule,
    verdict::{BodyOutcome, Verdict},
};
use crate::compile::Ruleset;

/// One request and its response going through the rules. Memory is kept from one transaction to the next:
/// [`begin`](Self::begin) starts anew.
pub struct Transaction {
    ruleset: Arc<Ruleset>,
    services: Services,
    matches: Vec<MatchedRule>,
}

impl Transaction {
    /// Memory for transactions under `ruleset`. Nothing is inspected before [`begin`](Self::begin).
    pub fn new(ruleset: Arc<Ruleset>, services: Services) -> Self {
        Self { ruleset, services, matches: Vec::new() }
    }

    /// Starts a transaction, forgetting the one before.
    pub fn begin(&mut self, connection: &Connection<'_>) {
        let _ = (connection, &self.services);
        self.matches.clear();
    }

    /// Takes another rule set for the transactions to come; call before [`begin`](Self::begin).
    pub fn set_ruleset(&mut self, ruleset: Arc<Ruleset>) {
        self.ruleset = ruleset;
    }

    /// The rule set in use.
    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    /// The request line by its parts; the URI as it stands on the line, `protocol` like `HTTP/1.1`.
    pub fn request_line(&mut self, method: &[u8], uri: &[u8], protocol: &[u8]) {
        let _ = (method, uri, protocol);
    }

    /// The request line as it came, without the line's end; cut into parts at its spaces.
    pub fn request_line_raw(&mut self, line: &[u8]) {
        let _ = line;
    }

    /// A request header, in the order they came.
    pub fn request_header(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value);
    }

    /// Phase 1.
    pub fn request_headers(&mut self) -> Verdict {
        Verdict::Pass
    }

    /// Whether the rules want to see the request's body: valid after phase 1.
    pub fn wants_request_body(&self) -> bool {
        false
    }

    /// A piece of the request's body.
    pub fn write_request_body(&mut self, piece: &[u8]) -> BodyOutcome {
        let _ = piece;
        BodyOutcome::Enough
    }

    /// Phase 2; call it for requests without a body as well.
    pub fn request_body(&mut self) -> Verdict {
        Verdict::Pass
    }

    /// The response's status line; `reason` may be empty.
    pub fn response_line(&mut self, status: u16, protocol: &[u8], reason: &[u8]) {
        let _ = (status, protocol, reason);
    }

    /// A response header, in the order they came.
    pub fn response_header(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value);
    }

    /// Phase 3.
    pub fn response_headers(&mut self) -> Verdict {
        Verdict::Pass
    }

    /// Whether the rules want to see the response's body (access, content type): valid after phase 3.
    pub fn wants_response_body(&self) -> bool {
        false
    }

    /// A piece of the response's body.
    pub fn write_response_body(&mut self, piece: &[u8]) -> BodyOutcome {
        let _ = piece;
        BodyOutcome::Enough
    }

    /// Phase 4.
    pub fn response_body(&mut self) -> Verdict {
        Verdict::Pass
    }

    /// Phase 5. `unix_nanos` is now, for DURATION. It can't block any more. Call it once for each transaction, blocked ones too.
    pub fn logging(&mut self, unix_nanos: u64) {
        let _ = unix_nanos;
    }

    /// The rules that matched and were to be logged, in order.
    pub fn matches(&self) -> &[MatchedRule] {
        &self.matches
    }

    /// CRS's anomaly scores as they stand now.
    pub fn scores(&self) -> Scores {
        Scores::default()
    }

    /// Whether the transaction is one for the audit log (SecAuditEngine, a rule with `auditlog`, relevant status).
    pub fn is_for_audit(&self) -> bool {
        false
    }
}
