//! The request's line and headers.

use super::core::{Core, Processor};
use crate::{
    body::{cookies, urlencoded},
    compile::Ruleset,
    variables::{Variable, arena::Span, store::List},
};

impl Core {
    pub(crate) fn request_line(&mut self, method: &[u8], uri: &[u8], protocol: &[u8], rules: &Ruleset) {
        let line = self.arena.data_of(&[method, b" ", uri, b" ", protocol]);
        self.set_request_line(line, method.len(), method.len() + 1 + uri.len(), rules);
    }

    /// Method up to the first space, protocol from the last one on if it looks like one, the URI between.
    pub(crate) fn request_line_raw(&mut self, line: &[u8], rules: &Ruleset) {
        let method = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
        let last = line.iter().rposition(|b| *b == b' ').filter(|at| *at > method);
        let uri_end = last.filter(|at| line[at + 1..].starts_with(b"HTTP/")).unwrap_or(line.len());
        let line = self.arena.data(line);
        self.set_request_line(line, method, uri_end, rules);
    }

    fn set_request_line(&mut self, line: Span, method_end: usize, uri_end: usize, rules: &Ruleset) {
        let uri = line.part(method_end + 1, uri_end);
        self.store.set_bytes(Variable::RequestLine, line);
        self.store.set_bytes(Variable::RequestMethod, line.part(0, method_end));
        self.store.set_bytes(Variable::RequestProtocol, line.part(uri_end + 1, usize::MAX));
        self.store.set_bytes(Variable::RequestUriRaw, uri);
        let text = self.arena.get(uri);
        let local_from = local_part(text);
        let question = memchr::memchr(b'?', &text[local_from..]).map(|at| at + local_from);
        let path_end = question.unwrap_or(text.len());
        let (path, whole) = (uri.part(local_from, path_end), uri.part(local_from, usize::MAX));
        let path = self.percent_decoded(path);
        let whole = self.percent_decoded(whole);
        let base =
            self.arena.get(path).iter().rposition(|b| matches!(b, b'/' | b'\\')).map_or(0, |at| at + 1);
        self.store.set_bytes(Variable::RequestUri, whole);
        self.store.set_bytes(Variable::RequestFilename, path);
        self.store.set_bytes(Variable::PathInfo, path);
        self.store.set_bytes(Variable::RequestBasename, path.part(base, usize::MAX));
        if let Some(question) = question {
            let query = uri.part(question + 1, usize::MAX);
            self.store.set_bytes(Variable::QueryString, query);
            self.urlencoded_arguments(List::ArgsGet, query, rules);
        }
    }

    /// `%HH` decoded, as ModSecurity v3 shows REQUEST_URI and REQUEST_FILENAME; invalid escapes stay.
    fn percent_decoded(&mut self, span: Span) -> Span {
        let text = self.arena.get(span);
        let Some(first) = memchr::memchr(b'%', text) else { return span };
        let mut out = std::mem::take(&mut self.transformed);
        out.clear();
        out.extend_from_slice(&text[..first]);
        let mut rest = &text[first..];
        while let [byte, tail @ ..] = rest {
            rest = tail;
            let digit = |at: usize| tail.get(at).and_then(|b| (*b as char).to_digit(16));
            match (byte, digit(0), digit(1)) {
                (b'%', Some(high), Some(low)) => {
                    out.push((high << 4 | low) as u8);
                    rest = tail.get(2..).unwrap_or_default();
                }
                _ => out.push(*byte),
            }
        }
        let span = self.arena.data(&out);
        self.transformed = out;
        span
    }

    /// Adds the pairs of an urlencoded text to a list of arguments.
    pub(crate) fn urlencoded_arguments(&mut self, list: List, text: Span, rules: &Ruleset) {
        let mut input = std::mem::take(&mut self.transformed);
        input.clear();
        input.extend_from_slice(self.arena.get(text));
        let separator = rules.settings.argument_separator;
        let flags = urlencoded::parse(&input, separator, &mut |name, value| {
            self.push_argument(list, name, value, rules);
        });
        self.transformed = input;
        if flags.invalid_encoding {
            self.store.set_int(Variable::UrlencodedError, 1);
        }
    }

    /// Adds an argument, up to SecArgumentsLimit. Rules do not see those beyond, and so it is an error of the body that there are any.
    pub(crate) fn push_argument(&mut self, list: List, name: &[u8], value: &[u8], rules: &Ruleset) {
        if self.has_room_for_argument(rules) {
            let (name, value) = (self.arena.data(name), self.arena.data(value));
            self.push_argument_span(list, name, value, rules);
        }
    }

    /// The same for one that is in the arena.
    pub(crate) fn push_argument_span(&mut self, list: List, name: Span, value: Span, rules: &Ruleset) {
        if self.has_room_for_argument(rules) {
            self.arguments += 1;
            self.args_bytes += (name.len() + value.len()) as u64;
            self.push_named(list, name, value, rules);
        }
    }

    fn has_room_for_argument(&mut self, rules: &Ruleset) -> bool {
        let limit = rules.settings.arguments_limit;
        if self.arguments == limit {
            // One beyond, so that it is said once.
            self.arguments = limit.saturating_add(1);
            self.body_error("more arguments than SecArgumentsLimit allows");
        }
        self.arguments < limit
    }

    pub(crate) fn request_header(&mut self, name: &[u8], value: &[u8], rules: &Ruleset) {
        let (name_span, value_span) = (self.arena.data(name), self.arena.data(value));
        self.push_named(List::RequestHeaders, name_span, value_span, rules);
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        match name.len() {
            4 if is("host") => {
                let host = host_without_port(value);
                self.store.set_bytes(Variable::ServerName, value_span.part(0, host));
            }
            6 if is("cookie") => self.cookies(value, rules),
            12 if is("content-type") => self.content_type(value),
            13 if is("authorization") => {
                let scheme = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
                self.store.set_bytes(Variable::AuthType, value_span.part(0, scheme));
            }
            _ => {}
        }
    }

    fn cookies(&mut self, value: &[u8], rules: &Ruleset) {
        cookies::parse(value, rules.settings.cookie_separator, &mut |name, value| {
            let (name, value) = (self.arena.data(name), self.arena.data(value));
            self.push_named(List::RequestCookies, name, value, rules);
        });
    }

    fn content_type(&mut self, value: &[u8]) {
        let begins =
            |wanted: &[u8]| value.get(..wanted.len()).is_some_and(|head| head.eq_ignore_ascii_case(wanted));
        if begins(b"application/x-www-form-urlencoded") {
            self.set_processor(Processor::UrlEncoded);
        } else if begins(b"multipart/form-data") {
            self.set_processor(Processor::Multipart);
        }
    }
}

/// Where the path of `http://host/path` begins; 0 for anything else.
fn local_part(uri: &[u8]) -> usize {
    if uri.first() == Some(&b'/') {
        return 0;
    }
    let Some(colon) = memchr::memchr(b':', uri) else { return 0 };
    if !uri[..colon].iter().all(u8::is_ascii_alphanumeric) || !uri[colon + 1..].starts_with(b"//") {
        return 0;
    }
    uri[colon + 3..].iter().position(|b| *b == b'/').map_or(0, |at| colon + 3 + at)
}

/// The length of the host in a Host header.
fn host_without_port(value: &[u8]) -> usize {
    let end = if value.first() == Some(&b'[') {
        value.iter().position(|b| *b == b']').map(|at| at + 1)
    } else {
        value.iter().position(|b| *b == b':')
    };
    end.unwrap_or(value.len())
}
