//! A request's line.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version};

use super::escape;
use super::time::Parts;
use crate::client::{ClientId, Reach};

/// Longest client-sent value in a line, in bytes; longer ones are cut.
pub const MAX_VALUE: usize = 2048;

/// What is known of a request once its response has gone.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When it came, milliseconds since 1970.
    pub unix_ms: u64,
    /// From its head to the end of its response.
    pub took: Duration,
    /// The request's id.
    pub request_id: &'a str,
    /// The socket's peer.
    pub peer: IpAddr,
    /// The client; the peer where it couldn't be told.
    pub client: ClientId,
    /// The listener's name.
    pub listener: &'a str,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The method, where a head was read.
    pub method: Option<&'a Method>,
    /// The request target as sent.
    pub target: &'a [u8],
    /// The host asked for.
    pub host: &'a str,
    /// The version of HTTP.
    pub version: Version,
    /// `User-Agent`.
    pub user_agent: Option<&'a HeaderValue>,
    /// `Referer`.
    pub referer: Option<&'a HeaderValue>,
    /// The response's status.
    pub status: StatusCode,
    /// Bytes of the response's body that were sent.
    pub sent: u64,
    /// Whether the response went out whole.
    pub complete: bool,
    /// The server that answered.
    pub server: Option<&'a str>,
    /// Until that server's head was read.
    pub server_took: Option<Duration>,
    /// Why the gateway refused it, as a code.
    pub denied: Option<&'a str>,
    /// The rate limit that refused it.
    pub limit: Option<&'a str>,
    /// The rate limits in shadow mode that would have refused it.
    pub shadowed: &'a [Arc<str>],
    /// Anomaly score.
    pub score: i64,
    /// Rules that matched.
    pub rules: &'a [u64],
    /// The TLS version.
    pub tls: Option<&'a str>,
    /// The client's TLS fingerprint.
    pub ja4: Option<&'a str>,
    /// The client's country.
    pub country: Option<[u8; 2]>,
    /// The client's autonomous system.
    pub asn: Option<u32>,
}

impl Record<'_> {
    /// One JSON object and a newline.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        Parts::new(self.unix_ms).rfc3339(out);
        out.extend_from_slice(b"\",");
        text(out, "request_id", self.request_id.as_bytes());
        // Writing to a Vec doesn't fail.
        let _ = write!(out, "\"client\":\"{}\",", self.client.addr());
        if let Reach::Behind(proxy) = self.client.reach() {
            let _ = write!(out, "\"proxy\":\"{proxy}\",");
        }
        text(out, "listener", self.listener.as_bytes());
        optional(out, "route", self.route.map(str::as_bytes));
        optional(out, "method", self.method.map(|m| m.as_str().as_bytes()));
        text(out, "host", self.host.as_bytes());
        text(out, "target", self.target);
        text(out, "protocol", protocol(self.version).as_bytes());
        let _ = write!(out, "\"status\":{},\"sent\":{},", self.status.as_u16(), self.sent);
        let _ = write!(out, "\"ms\":{}.{:03},", self.took.as_millis(), self.took.as_micros() % 1000);
        if !self.complete {
            out.extend_from_slice(b"\"complete\":false,");
        }
        optional(out, "upstream", self.server.map(str::as_bytes));
        if let Some(took) = self.server_took {
            let _ = write!(out, "\"upstream_ms\":{}.{:03},", took.as_millis(), took.as_micros() % 1000);
        }
        optional(out, "denied", self.denied.map(str::as_bytes));
        optional(out, "limit", self.limit.map(str::as_bytes));
        if !self.shadowed.is_empty() {
            // Names of limits have nothing that JSON or Rust would escape.
            let _ = write!(out, "\"shadowed\":{:?},", self.shadowed);
        }
        if self.score != 0 || !self.rules.is_empty() {
            let _ = write!(out, "\"score\":{},\"rules\":{:?},", self.score, self.rules);
        }
        optional(out, "tls", self.tls.map(str::as_bytes));
        optional(out, "ja4", self.ja4.map(str::as_bytes));
        optional(out, "country", self.country.as_ref().map(<[u8; 2]>::as_slice));
        if let Some(asn) = self.asn {
            let _ = write!(out, "\"asn\":{asn},");
        }
        optional(out, "referer", self.referer.map(HeaderValue::as_bytes));
        optional(out, "user_agent", self.user_agent.map(HeaderValue::as_bytes));
        // Each field ends in a comma: the last one's makes place for the bracket.
        out.pop();
        out.extend_from_slice(b"}\n");
    }

    /// `client - - [time] "request" status bytes "referer" "user agent"` and a newline.
    pub(super) fn write_combined(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "{} - - [", self.client.addr());
        Parts::new(self.unix_ms).common(out);
        out.extend_from_slice(b"] \"");
        if let Some(method) = self.method {
            out.extend_from_slice(method.as_str().as_bytes());
            out.push(b' ');
            escape::quoted(out, cut(self.target));
            out.push(b' ');
            out.extend_from_slice(protocol(self.version).as_bytes());
        }
        let _ = write!(out, "\" {} {} \"", self.status.as_u16(), self.sent);
        escape::quoted(out, self.referer.map_or(b"-", |v| cut(v.as_bytes())));
        out.extend_from_slice(b"\" \"");
        escape::quoted(out, self.user_agent.map_or(b"-", |v| cut(v.as_bytes())));
        out.extend_from_slice(b"\"\n");
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    escape::json(out, cut(value));
    out.extend_from_slice(b"\",");
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        text(out, name, value);
    }
}

fn cut(value: &[u8]) -> &[u8] {
    &value[..value.len().min(MAX_VALUE)]
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
