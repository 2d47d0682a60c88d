//! The audit record of a transaction: owned, sanitised, in the shape of ModSecurity v3's JSON audit log.
//!
//! [`Record`] serialises to that JSON; [`Record::native`] renders the older multi-part text. SecAuditLogParts decides
//! what is in it.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::error_log::{self, LineContext};
use super::mask::{Mask, name_of};
use super::time;
use crate::{EngineMode, MatchedRule, MatchedValue, Text, Transaction, Variable};

/// Most bytes of a body in a record; the rest is left out and `truncated` says so.
pub const BODY_MAX_BYTES: usize = 1 << 20;

/// What a record needs besides the transaction.
#[derive(Clone, Copy, Debug)]
pub struct RecordContext<'a> {
    /// Start of the transaction, nanoseconds since 1970, UTC.
    pub unix_nanos: u64,
    /// Seconds to add to UTC for the times shown.
    pub utc_offset_seconds: i32,
    /// The name of the program: `gateway/0.1.0`.
    pub producer: &'a str,
    /// The status that the client got.
    pub status: u16,
}

/// One transaction.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The whole is one object named so.
    pub transaction: Body,
    #[serde(skip)]
    parts: String,
    #[serde(skip)]
    lines: Vec<String>,
    #[serde(skip)]
    pub(super) unix_nanos: u64,
    #[serde(skip)]
    pub(super) utc_offset_seconds: i32,
    #[serde(skip)]
    form: Option<Text>,
    #[serde(skip)]
    files: Vec<(Text, Text)>,
}

/// The transaction's own fields.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Body {
    pub client_ip: Text,
    pub time_stamp: String,
    pub client_port: u16,
    pub host_ip: Text,
    pub host_port: u16,
    pub unique_id: Text,
    pub request: Request,
    pub response: Response,
    pub producer: Producer,
    pub messages: Vec<Message>,
}

/// The request.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Request {
    pub method: Text,
    pub http_version: Text,
    pub uri: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Text>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
}

/// The response.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Response {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Text>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    pub http_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
}

/// Header fields in order; an object in JSON.
#[derive(Debug)]
pub struct Headers(pub Vec<(Text, Text)>);

impl Headers {
    fn new(list: &[MatchedValue], shown: impl Fn(&[u8], &[u8]) -> Vec<u8>) -> Self {
        let field = |v: &MatchedValue| {
            let name = name_of(v);
            (Text::from(name), Text::from(shown(name, &v.value).as_slice()))
        };
        Self(list.iter().map(field).collect())
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Who wrote it.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Producer {
    pub connector: String,
    pub secrules_engine: &'static str,
}

/// A rule that matched.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Message {
    pub message: Text,
    pub details: Details,
}

/// What there is to say of the rule.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(rename = "match")]
    pub matched: String,
    pub rule_id: String,
    pub file: String,
    pub line_number: String,
    pub data: Text,
    pub severity: String,
    pub ver: String,
    pub rev: String,
    pub tags: Vec<String>,
    pub maturity: String,
    pub accuracy: String,
}

impl Record {
    /// The record of a transaction, after its logging phase. Call it when [`Transaction::is_for_audit`] says so.
    pub fn new(transaction: &mut Transaction, context: &RecordContext<'_>) -> Self {
        let mut values = |variable: Variable| transaction.values(variable);
        let request_headers = values(Variable::RequestHeaders);
        let response_headers = values(Variable::ResponseHeaders);
        let arguments = values(Variable::Args);
        let mut one = |variable: Variable| values(variable).pop().map(|v| v.value).unwrap_or_default();
        let method = one(Variable::RequestMethod);
        let (protocol, uri) = (one(Variable::RequestProtocol), one(Variable::RequestUriRaw));
        let (client_ip, client_port) = (one(Variable::RemoteAddr), one(Variable::RemotePort));
        let (host_ip, host_port) = (one(Variable::ServerAddr), one(Variable::ServerPort));
        let (unique_id, host) = (one(Variable::UniqueId), one(Variable::ServerName));
        let (request_body, response_body) = (one(Variable::RequestBody), one(Variable::ResponseBody));
        let is_form = one(Variable::ReqbodyProcessor).eq_ignore_ascii_case(b"URLENCODED");
        let posted = values(Variable::ArgsPost);
        let files = pairs(values(Variable::Files), &values(Variable::FilesSizes));

        let parts = transaction.audit_parts().to_owned();
        let has = |part: char| parts.contains(part);
        let mask = Mask::new(transaction.sanitised(), &arguments, &request_headers, &response_headers);
        let body = |bytes: &[u8], is_form: bool| {
            let cut = &bytes[..bytes.len().min(BODY_MAX_BYTES)];
            Text::from(if is_form { mask.form(cut) } else { mask.text(cut) }.as_slice())
        };
        let client = client_ip.to_string();
        let id = unique_id.to_string();
        let hostname = if host.is_empty() { host_ip.to_string() } else { host.to_string() };
        let shown_uri = mask.uri(&uri);
        let line_context = LineContext {
            client: &client,
            hostname: &hostname,
            uri: shown_uri.split(|&byte| byte == b'?').next().unwrap_or_default(),
            unique_id: &id,
            status: context.status,
        };
        let logged: Vec<MatchedRule> =
            transaction.matches().iter().filter(|m| m.audit).map(|m| masked(m, &mask)).collect();
        Self {
            lines: logged.iter().map(|m| error_log::line(m, &line_context)).collect(),
            transaction: Body {
                time_stamp: time::stamp(context.unix_nanos, context.utc_offset_seconds),
                client_ip,
                client_port: number(&client_port),
                host_ip,
                host_port: number(&host_port),
                unique_id,
                request: Request {
                    method,
                    http_version: Text::from(protocol.strip_prefix(b"HTTP/").unwrap_or(&protocol)),
                    uri: Text::from(shown_uri.as_slice()),
                    truncated: has('C') && request_body.len() > BODY_MAX_BYTES,
                    body: has('C').then(|| body(&request_body, is_form)),
                    headers: has('B')
                        .then(|| Headers::new(&request_headers, |n, v| mask.request_header(n, v))),
                },
                response: Response {
                    truncated: has('E') && response_body.len() > BODY_MAX_BYTES,
                    body: has('E').then(|| body(&response_body, false)),
                    http_code: context.status,
                    headers: has('F')
                        .then(|| Headers::new(&response_headers, |n, v| mask.response_header(n, v))),
                },
                producer: Producer {
                    connector: context.producer.to_owned(),
                    secrules_engine: mode_name(transaction.engine_mode()),
                },
                messages: if has('H') { logged.iter().map(Message::new).collect() } else { Vec::new() },
            },
            unix_nanos: context.unix_nanos,
            utc_offset_seconds: context.utc_offset_seconds,
            form: has('I').then(|| body(&form_of(&posted), true)),
            files: if has('J') { files } else { Vec::new() },
            parts,
        }
    }

    /// The record as ModSecurity's native, multi-part text. `boundary` tells it from its neighbours: letters and digits.
    pub fn native(&self, boundary: &str) -> String {
        let body = &self.transaction;
        let mut out = String::with_capacity(2048);
        let mut part = |name: char, text: &str| {
            out.push_str(&format!("--{boundary}-{name}--\n{text}"));
            out.push_str(if text.is_empty() || text.ends_with('\n') { "\n" } else { "\n\n" });
        };
        let stamp = time::native_stamp(self.unix_nanos, self.utc_offset_seconds);
        part(
            'A',
            &format!(
                "[{stamp}] {} {} {} {} {}\n",
                body.unique_id, body.client_ip, body.client_port, body.host_ip, body.host_port
            ),
        );
        for name in self.parts.chars() {
            match name {
                'B' => {
                    let (request, version) = (&body.request, &body.request.http_version);
                    let line = format!("{} {} HTTP/{version}\n", request.method, request.uri);
                    part('B', &(line + &header_lines(request.headers.as_ref())));
                }
                'C' => part('C', &shown(body.request.body.as_ref())),
                'E' => part('E', &shown(body.response.body.as_ref())),
                'F' => {
                    let line = format!("HTTP/{} {}\n", body.request.http_version, body.response.http_code);
                    part('F', &(line + &header_lines(body.response.headers.as_ref())));
                }
                'H' => part('H', &lines_of(&self.lines)),
                'I' => part('I', &shown(self.form.as_ref())),
                'J' => {
                    let list: Vec<String> =
                        self.files.iter().map(|(name, size)| format!("{size} \"{name}\"\n")).collect();
                    part('J', &list.concat());
                }
                'K' => {
                    let ids: Vec<String> =
                        body.messages.iter().map(|m| format!("{}\n", m.details.rule_id)).collect();
                    part('K', &ids.concat());
                }
                _ => {}
            }
        }
        part('Z', "");
        out
    }
}

impl Message {
    fn new(matched: &MatchedRule) -> Self {
        let rule = &matched.rule;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            message: matched.message.clone(),
            details: Details {
                matched: error_log::finding(matched),
                rule_id: rule.id.to_string(),
                file: rule.file.clone(),
                line_number: rule.line.to_string(),
                data: matched.data.clone(),
                severity: rule.severity.map_or(0, |severity| severity as u8).to_string(),
                ver: text(&rule.ver),
                rev: text(&rule.rev),
                tags: matched.tags(),
                maturity: rule.maturity.unwrap_or(0).to_string(),
                accuracy: rule.accuracy.unwrap_or(0).to_string(),
            },
        }
    }
}

/// The match with everything hidden that is to be.
pub(super) fn masked(matched: &MatchedRule, mask: &Mask) -> MatchedRule {
    let mut own = matched.clone();
    own.message = Text::from(mask.text(&own.message).as_slice());
    own.data = Text::from(mask.text(&own.data).as_slice());
    for value in &mut own.values {
        let variable = value.variable.as_bytes();
        let (collection, name) = match variable.iter().position(|&byte| byte == b':') {
            Some(at) => (&variable[..at], &variable[at + 1..]),
            None => (variable, &[][..]),
        };
        let shown = match collection {
            b"REQUEST_HEADERS" => mask.request_header(name, &value.value),
            b"RESPONSE_HEADERS" => mask.response_header(name, &value.value),
            b"ARGS" | b"ARGS_GET" | b"ARGS_POST" => mask.argument(name, &value.value),
            b"QUERY_STRING" | b"REQUEST_BODY" => mask.form(&value.value),
            b"REQUEST_URI" | b"REQUEST_URI_RAW" | b"REQUEST_LINE" => mask.uri(&value.value),
            _ => mask.text(&value.value),
        };
        value.value = Text::from(shown.as_slice());
    }
    own
}

/// A form of the posted arguments, files left out.
fn form_of(posted: &[MatchedValue]) -> Vec<u8> {
    let mut form = Vec::new();
    for value in posted {
        if !form.is_empty() {
            form.push(b'&');
        }
        escape(name_of(value), &mut form);
        form.push(b'=');
        escape(&value.value, &mut form);
    }
    form
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~*".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

fn pairs(names: Vec<MatchedValue>, sizes: &[MatchedValue]) -> Vec<(Text, Text)> {
    let size = |index: usize| sizes.get(index).map(|s| s.value.clone()).unwrap_or_default();
    names.into_iter().enumerate().map(|(index, name)| (name.value, size(index))).collect()
}

fn number(text: &Text) -> u16 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn mode_name(mode: EngineMode) -> &'static str {
    match mode {
        EngineMode::On => "Enabled",
        EngineMode::Off => "Disabled",
        EngineMode::DetectionOnly => "DetectionOnly",
    }
}

/// One line a header; bytes that would break it are escaped by [`Text`].
fn header_lines(headers: Option<&Headers>) -> String {
    let lines: Vec<String> = headers
        .iter()
        .flat_map(|headers| &headers.0)
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines_of(&lines)
}

fn lines_of(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    if !lines.is_empty() {
        text.push('\n');
    }
    text
}

fn shown(body: Option<&Text>) -> String {
    body.map(ToString::to_string).unwrap_or_default()
}
