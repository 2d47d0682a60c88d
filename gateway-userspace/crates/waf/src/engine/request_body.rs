//! The request's body: limits, and the processor that makes arguments of it.

use super::{
    core::{Core, Processor},
    verdict::{BodyOutcome, Verdict},
};
use crate::{
    compile::Ruleset,
    lang::ast::{EngineMode, LimitAction},
    variables::{
        Variable,
        arena::{BUFFER_MAX_BYTES, Buffer},
        store::List,
    },
};

impl Core {
    pub(crate) fn wants_request_body(&self) -> bool {
        self.request_body_access
            && self.engine != EngineMode::Off
            && self.ended.is_none()
            && self.allowed.is_none()
    }

    pub(crate) fn write_request_body(&mut self, piece: &[u8], rules: &Ruleset) -> BodyOutcome {
        self.request_body_seen += piece.len() as u64;
        if !self.wants_request_body() || self.request_body_full {
            return BodyOutcome::Enough;
        }
        let mut limit = self.request_body_limit;
        if self.processor != Some(Processor::Multipart) {
            limit = limit.min(rules.settings.request_body_no_files_limit);
        }
        let limit = usize::try_from(limit).unwrap_or(BUFFER_MAX_BYTES).min(BUFFER_MAX_BYTES);
        let room = limit.saturating_sub(self.arena.len(Buffer::RequestBody));
        self.arena.push(Buffer::RequestBody, &piece[..piece.len().min(room)]);
        if piece.len() <= room {
            return BodyOutcome::Continue;
        }
        self.request_body_full = true;
        self.store.set_int(Variable::InboundDataError, 1);
        self.over_request_limit(rules)
    }

    /// What happens to a request over one of its limits.
    fn over_request_limit(&mut self, rules: &Ruleset) -> BodyOutcome {
        let rejects = rules.settings.request_body_limit_action == LimitAction::Reject;
        if rejects && self.engine == EngineMode::On {
            let verdict = Verdict::Deny { status: 413, rule_id: 0 };
            self.ended = Some(verdict.clone());
            return BodyOutcome::Stop(verdict);
        }
        BodyOutcome::Enough
    }

    /// Reads the body, as a step before phase 2.
    pub(crate) fn process_request_body(&mut self, rules: &Ruleset) {
        if self.ended.is_some() || self.engine == EngineMode::Off {
            return;
        }
        let body = self.arena.whole(Buffer::RequestBody);
        self.store.set_int(Variable::RequestBodyLength, self.request_body_seen as i64);
        if body.is_empty() {
            return;
        }
        if self.processor == Some(Processor::UrlEncoded) || self.force_request_body {
            self.store.set_bytes(Variable::RequestBody, body);
        }
        match self.processor {
            Some(Processor::UrlEncoded) => self.urlencoded_arguments(List::ArgsPost, body, rules),
            Some(Processor::Multipart | Processor::Json | Processor::Xml) | None => {}
        }
    }
}
