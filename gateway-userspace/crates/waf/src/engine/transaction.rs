//! The transaction as the caller sees it.

use std::sync::Arc;

use super::{
    context::{Connection, Observer, Scores, Services},
    core::Core,
    matched::{MatchedRule, MatchedValue},
    phases::LOGGING,
    verdict::{BodyOutcome, Verdict},
};
use crate::{
    actions::Sanitised,
    compile::Ruleset,
    lang::ast::{AuditMode, EngineMode},
    operators::pattern::Search,
    variables::{Variable, store::Value},
};

/// One request and its response going through the rules. Memory is kept from one transaction to the next:
/// [`begin`](Self::begin) starts anew.
pub struct Transaction {
    ruleset: Arc<Ruleset>,
    core: Box<Core>,
}

impl Transaction {
    /// Memory for transactions under `ruleset`. Nothing is inspected before [`begin`](Self::begin).
    pub fn new(ruleset: Arc<Ruleset>, services: Services) -> Self {
        Self { ruleset, core: Box::new(Core::new(services)) }
    }

    /// Starts a transaction, forgetting the one before.
    pub fn begin(&mut self, connection: &Connection<'_>) {
        self.core.begin(connection, &self.ruleset);
    }

    /// Takes another rule set for the transactions to come; call before [`begin`](Self::begin).
    pub fn set_ruleset(&mut self, ruleset: Arc<Ruleset>) {
        self.ruleset = ruleset;
        self.core.forget_screening();
    }

    /// The rule set in use.
    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    /// The request line by its parts; the URI as it stands on the line, `protocol` like `HTTP/1.1`.
    pub fn request_line(&mut self, method: &[u8], uri: &[u8], protocol: &[u8]) {
        self.core.request_line(method, uri, protocol, &self.ruleset);
    }

    /// The request line as it came, without the line's end; cut into parts at its spaces.
    pub fn request_line_raw(&mut self, line: &[u8]) {
        self.core.request_line_raw(line, &self.ruleset);
    }

    /// A request header, in the order they came.
    pub fn request_header(&mut self, name: &[u8], value: &[u8]) {
        self.core.request_header(name, value, &self.ruleset);
    }

    /// Phase 1.
    pub fn request_headers(&mut self) -> Verdict {
        self.core.run_phase(1, &self.ruleset)
    }

    /// Whether the rules want to see the request's body: valid after phase 1.
    pub fn wants_request_body(&self) -> bool {
        self.core.wants_request_body()
    }

    /// A piece of the request's body.
    pub fn write_request_body(&mut self, piece: &[u8]) -> BodyOutcome {
        self.core.write_request_body(piece, &self.ruleset)
    }

    /// Phase 2; call it for requests without a body as well.
    pub fn request_body(&mut self) -> Verdict {
        self.core.process_request_body(&self.ruleset);
        self.core.run_phase(2, &self.ruleset)
    }

    /// The response's status line; `reason` may be empty.
    pub fn response_line(&mut self, status: u16, protocol: &[u8], reason: &[u8]) {
        self.core.response_line(status, protocol, reason);
    }

    /// A response header, in the order they came.
    pub fn response_header(&mut self, name: &[u8], value: &[u8]) {
        self.core.response_header(name, value, &self.ruleset);
    }

    /// Phase 3.
    pub fn response_headers(&mut self) -> Verdict {
        self.core.run_phase(3, &self.ruleset)
    }

    /// Whether the rules want to see the response's body (access, content type): valid after phase 3.
    pub fn wants_response_body(&self) -> bool {
        self.core.wants_response_body(&self.ruleset)
    }

    /// A piece of the response's body.
    pub fn write_response_body(&mut self, piece: &[u8]) -> BodyOutcome {
        self.core.write_response_body(piece, &self.ruleset)
    }

    /// Phase 4.
    pub fn response_body(&mut self) -> Verdict {
        self.core.process_response_body(&self.ruleset);
        self.core.run_phase(4, &self.ruleset)
    }

    /// Phase 5. `unix_nanos` is now, for DURATION. It can't block any more. Call it once for each transaction, blocked ones too.
    pub fn logging(&mut self, unix_nanos: u64) {
        let milliseconds = unix_nanos.saturating_sub(self.core.unix_nanos) / 1_000_000;
        self.core.store.set_int(Variable::Duration, milliseconds as i64);
        self.core.run_phase(LOGGING, &self.ruleset);
    }

    /// The rules that matched and were to be logged, in order.
    pub fn matches(&self) -> &[MatchedRule] {
        &self.core.matches
    }

    /// CRS's anomaly scores as they stand now.
    pub fn scores(&self) -> Scores {
        let [inbound, inbound_detection, inbound_threshold, outbound, outbound_detection, outbound_threshold] =
            self.ruleset
                .score_keys
                .map(|key| key.and_then(|k| self.core.tx.number(&self.core.arena, k)).unwrap_or(0));
        Scores {
            inbound,
            inbound_detection,
            inbound_threshold,
            outbound,
            outbound_detection,
            outbound_threshold,
        }
    }

    /// Whether the transaction is one for the audit log (SecAuditEngine, a rule with `auditlog`, relevant status).
    pub fn is_for_audit(&self) -> bool {
        match self.core.audit_engine {
            AuditMode::On => true,
            AuditMode::Off => false,
            AuditMode::RelevantOnly => self.core.audit_wanted || self.is_relevant_status(),
        }
    }

    fn is_relevant_status(&self) -> bool {
        let status = match &self.core.ended {
            Some(Verdict::Deny { status, .. } | Verdict::Redirect { status, .. }) => *status,
            _ => self.core.response_status,
        };
        let pattern = self.ruleset.relevant_status.as_ref();
        pattern.is_some_and(|p| p.search(status.to_string().as_bytes()) == Search::Found)
    }

    /// SecAuditLogParts as rules left them.
    pub fn audit_parts(&self) -> &str {
        &self.core.audit_parts
    }

    /// What the audit log must not show.
    pub fn sanitised(&self) -> &[Sanitised] {
        &self.core.sanitised
    }

    /// The mode the rules run in now.
    pub fn engine_mode(&self) -> EngineMode {
        self.core.engine
    }

    /// Switches the mode for this transaction (a route of its own, say); call after [`begin`](Self::begin).
    pub fn set_engine_mode(&mut self, mode: EngineMode) {
        self.core.engine = mode;
    }

    /// Records every rule that matches, those with `nolog` as well (their [`MatchedRule::log`] is false). For tools.
    pub fn record_all(&mut self, on: bool) {
        self.core.records_all = on;
    }

    /// Has rules watched at work, from now on. Compile without the prefilter to have all of them asked.
    pub fn observe(&mut self, observer: Option<Box<dyn Observer>>) {
        self.core.observer = observer;
    }

    /// Sets a TX variable before the rules run (a route's paranoia level, say); call after [`begin`](Self::begin).
    pub fn set_tx(&mut self, name: &str, value: &[u8]) {
        let core = &mut *self.core;
        if let Some(key) = core.tx.key(&self.ruleset.symbols.tx, &mut core.arena, name.as_bytes()) {
            let value = core.arena.data(value);
            core.tx.set(key, Value::Bytes(value));
        }
    }

    /// The values that a variable has now, with their names (`ARGS:a`), in order.
    pub fn values(&mut self, variable: Variable) -> Vec<MatchedValue> {
        self.core.values(variable, &self.ruleset)
    }
}
