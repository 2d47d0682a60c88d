//! The request's body: limits, and the processor that makes arguments of it.

use super::{
    core::{Core, Processor},
    verdict::{BodyOutcome, Verdict},
};
use crate::{
    body::{
        json::{self, JsonLimits},
        multipart::{self, Elider, Multipart, MultipartLimits},
        xml::{self, XmlLimits},
    },
    compile::Ruleset,
    lang::ast::{EngineMode, LimitAction, XmlArguments},
    variables::{
        Variable,
        arena::{BUFFER_MAX_BYTES, Buffer, Span},
        store::{List, Value},
    },
};

/// Deepest JSON whatever SecRequestBodyJsonDepthLimit says.
const JSON_DEPTH_MAX: u64 = 10_000;
/// Longest name of an argument made of XML, bytes; a longer one is cut.
const XML_NAME_MAX_BYTES: usize = 1024;

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
        let before = self.request_body_seen - piece.len() as u64;
        if before == 0 {
            self.elide_files(rules);
        }
        let mut limit = self.request_body_limit;
        if self.processor != Some(Processor::Multipart) {
            limit = limit.min(rules.settings.request_body_no_files_limit);
        }
        let limit = usize::try_from(limit).unwrap_or(BUFFER_MAX_BYTES).min(BUFFER_MAX_BYTES);
        let room = limit.saturating_sub(usize::try_from(before).unwrap_or(usize::MAX));
        let taken = &piece[..piece.len().min(room)];
        match &mut self.elider {
            None => {
                self.arena.push(Buffer::RequestBody, taken);
            }
            Some(elider) => {
                let arena = &mut self.arena;
                elider.push(taken, &mut |bytes| {
                    arena.push(Buffer::RequestBody, bytes);
                });
            }
        }
        if piece.len() <= room {
            return BodyOutcome::Continue;
        }
        self.request_body_full = true;
        self.store.set_int(Variable::InboundDataError, 1);
        self.over_request_limit(rules)
    }

    /// Has large files left out, where that makes no difference to the rules.
    fn elide_files(&mut self, rules: &Ruleset) {
        let Some(keep) = self.services.upload_memory else { return };
        if self.processor == Some(Processor::Multipart) && !self.force_request_body && !rules.reads_uploads {
            let content_type = self.named(Variable::RequestHeaders, b"content-type");
            if let Some(Value::Bytes(span)) = content_type {
                self.elider = Elider::new(self.arena.get(span), keep as u64);
            }
        }
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
        if let Some(elider) = &mut self.elider {
            elider.finish();
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
            Some(Processor::Multipart) => self.multipart(body, rules),
            Some(Processor::Json) => self.json(body, rules),
            Some(Processor::Xml) => self.xml(body, rules),
            None => {}
        }
    }

    pub(super) fn body_error(&mut self, message: &str) {
        let text = self.arena.data(message.as_bytes());
        self.store.set_int(Variable::ReqbodyError, 1);
        self.store.set_bytes(Variable::ReqbodyErrorMsg, text);
        self.store.set_int(Variable::ReqbodyProcessorError, 1);
        self.store.set_bytes(Variable::ReqbodyProcessorErrorMsg, text);
    }

    fn json(&mut self, body: Span, rules: &Ruleset) {
        let limits = JsonLimits {
            depth: rules.settings.json_depth_limit.min(JSON_DEPTH_MAX) as usize,
            naming: rules.json_arrays,
            ..JsonLimits::default()
        };
        // The sink fills the arena that the body is in: the body steps aside.
        let text = self.arena.take(Buffer::RequestBody);
        let result = json::parse(text.get(..body.len()).unwrap_or_default(), &limits, &mut |name, value| {
            self.push_argument(List::ArgsPost, name, value, rules);
        });
        self.arena.give_back(Buffer::RequestBody, text);
        if let Err(error) = result {
            self.body_error(&error.to_string());
        }
    }

    fn xml(&mut self, body: Span, rules: &Ruleset) {
        match xml::parse(self.arena.get(body), &XmlLimits::default()) {
            Ok(document) => {
                if self.xml_arguments != XmlArguments::Off {
                    document.arguments(XML_NAME_MAX_BYTES, &mut |name, value| {
                        self.push_argument(List::ArgsPost, name.as_bytes(), value.as_bytes(), rules);
                    });
                }
                if self.xml_arguments == XmlArguments::OnlyArgs {
                    return;
                }
                for (number, (expression, path)) in rules.symbols.xpaths.iter().enumerate() {
                    let name = self.arena.data(expression.as_bytes());
                    document.select(path, &mut |text| {
                        let value = self.arena.data(text.as_bytes());
                        self.store.push(List::Xml, name, number as u32, value);
                    });
                }
            }
            Err(error) => self.body_error(&error.to_string()),
        }
    }

    fn multipart(&mut self, body: Span, rules: &Ruleset) {
        let content_type = self.named(Variable::RequestHeaders, b"content-type");
        let content_type = match content_type {
            Some(Value::Bytes(span)) => self.arena.get(span),
            _ => b"",
        };
        let limits = MultipartLimits {
            files: rules.settings.upload_file_limit as usize,
            ..MultipartLimits::default()
        };
        let parsed = multipart::parse(content_type, self.arena.get(body), &limits);
        let sizes = self.elider.take();
        let mut sizes = sizes.iter().flat_map(Elider::sizes);
        let (mut in_files, mut kept_of_files) = (0, 0);
        for part in &parsed.parts {
            let name = self.arena.data(&part.name);
            for header in &part.headers {
                let header = body.part(header.start, header.end);
                self.push_named(List::MultipartPartHeaders, name, header, rules);
            }
            self.push_named(List::MultipartName, name, name, rules);
            let content = body.part(part.content.start, part.content.end);
            if part.is_file() {
                let size = sizes.next().map_or(content.len() as u64, |size| *size);
                in_files += size;
                kept_of_files += content.len() as u64;
                self.push_file(part, name, content, size, rules);
            } else {
                self.push_argument_span(List::ArgsPost, name, content, rules);
            }
        }
        self.multipart_flags(&parsed);
        self.files_bytes = in_files;
        if let Some(error) = &parsed.error {
            self.body_error(&format!("Multipart parsing error: {error}"));
        }
        if (body.len() as u64).saturating_sub(kept_of_files) > rules.settings.request_body_no_files_limit {
            self.over_request_limit(rules);
        }
    }

    fn push_file(&mut self, part: &multipart::Part, name: Span, content: Span, size: u64, rules: &Ruleset) {
        for file_name in [&part.filename, &part.filename_extended].into_iter().flatten() {
            let file_name = self.arena.data(file_name);
            self.push_named(List::Files, name, file_name, rules);
            self.push_named(List::MultipartFilename, name, file_name, rules);
        }
        let size = self.arena.number(size as i64);
        self.push_named(List::FilesSizes, name, size, rules);
        self.push_named(List::FilesTmpContent, name, content, rules);
    }

    fn multipart_flags(&mut self, parsed: &Multipart) {
        let flags = &parsed.flags;
        let set = [
            (Variable::MultipartDataBefore, flags.data_before),
            (Variable::MultipartDataAfter, flags.data_after),
            (Variable::MultipartBoundaryQuoted, flags.boundary_quoted),
            (Variable::MultipartBoundaryWhitespace, flags.boundary_whitespace),
            (Variable::MultipartHeaderFolding, flags.header_folding),
            (Variable::MultipartInvalidHeaderFolding, flags.invalid_header_folding),
            (Variable::MultipartLfLine, flags.lf_line),
            (Variable::MultipartCrlfLfLines, parsed.mixes_line_ends()),
            (Variable::MultipartMissingSemicolon, flags.missing_semicolon),
            (Variable::MultipartInvalidQuoting, flags.invalid_quoting),
            (Variable::MultipartInvalidPart, flags.invalid_part),
            (Variable::MultipartFileLimitExceeded, flags.file_limit_exceeded),
            (Variable::MultipartStrictError, parsed.strict_error()),
        ];
        for (variable, on) in set {
            self.store.set_int(variable, i64::from(on));
        }
        self.store.set_int(Variable::MultipartUnmatchedBoundary, flags.unmatched_boundary as i64);
    }
}
