//! The response: line, headers, body.

use super::{
    core::Core,
    verdict::{BodyOutcome, Verdict},
};
use crate::{
    compile::Ruleset,
    lang::ast::{EngineMode, LimitAction},
    variables::{
        Variable,
        arena::{BUFFER_MAX_BYTES, Buffer, write_number},
        store::List,
    },
};

impl Core {
    pub(crate) fn response_line(&mut self, status: u16, protocol: &[u8], reason: &[u8]) {
        self.response_status = status;
        self.store.set_int(Variable::ResponseStatus, i64::from(status));
        let protocol_span = self.arena.data(protocol);
        self.store.set_bytes(Variable::ResponseProtocol, protocol_span);
        let mut digits = [0; 20];
        let from = write_number(i64::from(status), &mut digits);
        let line = self.arena.data_of(&[protocol, b" ", &digits[from..], b" ", reason]);
        let line = if reason.is_empty() { line.part(0, line.len() - 1) } else { line };
        self.store.set_bytes(Variable::StatusLine, line);
    }

    pub(crate) fn response_header(&mut self, name: &[u8], value: &[u8], rules: &Ruleset) {
        let (name_span, value_span) = (self.arena.data(name), self.arena.data(value));
        self.push_named(List::ResponseHeaders, name_span, value_span, rules);
        if name.eq_ignore_ascii_case(b"content-type") {
            let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
            let end = value[..end].trim_ascii_end().len();
            self.store.set_bytes(Variable::ResponseContentType, value_span.part(0, end));
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.store.set_bytes(Variable::ResponseContentLength, value_span);
        }
    }

    pub(crate) fn wants_response_body(&self, rules: &Ruleset) -> bool {
        let is_open = self.ended.is_none() && !matches!(self.allowed, Some(crate::AllowScope::Transaction));
        self.response_body_access && self.engine != EngineMode::Off && is_open && self.is_wanted_type(rules)
    }

    fn is_wanted_type(&self, rules: &Ruleset) -> bool {
        let Some(crate::variables::store::Value::Bytes(span)) =
            self.store.scalar(Variable::ResponseContentType)
        else {
            return false;
        };
        let given = self.arena.get(span);
        rules.settings.response_body_mime_types.iter().any(|t| given.eq_ignore_ascii_case(t.as_bytes()))
    }

    pub(crate) fn write_response_body(&mut self, piece: &[u8], rules: &Ruleset) -> BodyOutcome {
        self.response_body_seen += piece.len() as u64;
        if self.response_body_full || !self.wants_response_body(rules) {
            return BodyOutcome::Enough;
        }
        let limit =
            usize::try_from(self.response_body_limit).unwrap_or(BUFFER_MAX_BYTES).min(BUFFER_MAX_BYTES);
        let room = limit.saturating_sub(self.arena.len(Buffer::ResponseBody));
        self.arena.push(Buffer::ResponseBody, &piece[..piece.len().min(room)]);
        if piece.len() <= room {
            return BodyOutcome::Continue;
        }
        self.response_body_full = true;
        self.store.set_int(Variable::OutboundDataError, 1);
        if rules.settings.response_body_limit_action == LimitAction::Reject && self.engine == EngineMode::On {
            let verdict = Verdict::Deny { status: 500, rule_id: 0 };
            self.ended = Some(verdict.clone());
            return BodyOutcome::Stop(verdict);
        }
        BodyOutcome::Enough
    }

    /// Shows the body to the rules, as a step before phase 4.
    pub(crate) fn process_response_body(&mut self, rules: &Ruleset) {
        if !self.wants_response_body(rules) && !self.response_body_full {
            return;
        }
        let body = self.arena.whole(Buffer::ResponseBody);
        self.store.set_bytes(Variable::ResponseBody, body);
        if self.store.scalar(Variable::ResponseContentLength).is_none() {
            self.store.set_int(Variable::ResponseContentLength, self.response_body_seen as i64);
        }
    }
}
