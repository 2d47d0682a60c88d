//! `[http]`: what a client may send, and how slowly.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{bounds, listener};
use crate::config::{Problems, Size, Span};

/// Most header fields that can be allowed.
pub const MAX_HEADERS: u64 = 1024;
/// Largest request head that can be allowed, in bytes.
pub const MAX_HEADER_BYTES: u64 = 1 << 20;

/// `[http]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {
    max_connections: Option<Spanned<u64>>,
    max_connections_per_source: Option<Spanned<u64>>,
    max_header_bytes: Option<Spanned<Size>>,
    max_headers: Option<Spanned<u64>>,
    max_uri_bytes: Option<Spanned<Size>>,
    max_body: Option<Spanned<Size>>,
    max_memory: Option<Spanned<Size>>,
    spare_descriptors: Option<Spanned<u64>>,
    min_rate: Option<Spanned<Size>>,
    h2_streams: Option<Spanned<u64>>,
    header_timeout: Option<Spanned<Span>>,
    body_timeout: Option<Spanned<Span>>,
    send_timeout: Option<Spanned<Span>>,
    idle_timeout: Option<Spanned<Span>>,
    requests_per_connection: Option<Spanned<u64>>,
    methods: Option<Spanned<Vec<String>>>,
    hosts: Option<Spanned<Vec<String>>>,
    merge_slashes: Option<bool>,
    sni_must_match_host: bool,
}

/// What a client may send, and how slowly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Open connections in total; default 50,000; 1 to 1,000,000. Further ones are closed at once.
    pub max_connections: u64,
    /// Open connections of one IPv4 address or IPv6 /64 that is not a trusted proxy; default 1,024.
    /// Further ones are closed at once.
    pub max_connections_per_source: u64,
    /// Request line and header fields together, in bytes; default 64 KiB; 1 KiB to 1 MiB. Past it: 431.
    pub max_header_bytes: u64,
    /// Header fields of a request; default 128; 8 to 1,024. Past it: 431.
    pub max_headers: u64,
    /// The request target in bytes; default 16 KiB; 128 B to 64 KiB. Past it: 414.
    pub max_uri_bytes: u64,
    /// A request body in bytes, unless the route says otherwise; default 16 MiB; 0 to 64 GiB. Past it: 413.
    pub max_body: u64,
    /// Resident memory past which requests are answered with 503, in bytes; default 85 % of what the control group
    /// allows, or no bound where that allows any; 0: no bound; else 32 MiB to 16 TiB.
    pub max_memory: Option<u64>,
    /// Descriptors that new connections leave free, at most a quarter of the limit; default 256; 0 to 1,000,000.
    /// Into them a connection's first request gets 503; into the last quarter of them it is closed at once.
    pub spare_descriptors: u64,
    /// Bytes a second, on average, below which a client that sends a body or reads a response is too slow, counted
    /// past the first `body_timeout` or `send_timeout`; default 100; 0 (any) to 1 MiB. Past it: as for the timeouts.
    pub min_rate: u64,
    /// Concurrent streams of one HTTP/2 connection; default 128; 1 to 1,024. Past it the stream is refused.
    pub h2_streams: u64,
    /// From the first byte of a request to the end of its head; default 10 s; 100 ms to 5 min. Past it: 408.
    pub header_timeout: Duration,
    /// Longest pause between two reads of a request body; default 15 s; 100 ms to 1 h. Past it: 408.
    pub body_timeout: Duration,
    /// Longest pause of a client that doesn't read its response; default 30 s; 100 ms to 1 h.
    /// Past it the connection is closed.
    pub send_timeout: Duration,
    /// How long a connection may stay open between requests; default 60 s; 100 ms to 1 h.
    pub idle_timeout: Duration,
    /// Requests on one HTTP/1.1 connection before it is closed; default 100,000; 1 to 1,000,000,000.
    pub requests_per_connection: u64,
    /// Methods that are let through; default GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS. Others: 405.
    pub methods: Vec<String>,
    /// Hosts that are served at all, `*.example.com` for every name below; default: every host. Others: 421.
    pub hosts: Vec<String>,
    /// Whether `//` in a path becomes `/` before rules, routes and upstreams see it; default true.
    pub merge_slashes: bool,
    /// Whether a TLS request whose host is not the name of its handshake is refused with 421; default false.
    pub sni_must_match_host: bool,
}

const DEFAULT_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Least and most of `max_memory`, in bytes.
const MIN_MEMORY: u64 = 32 << 20;
const MAX_MEMORY: u64 = 16 << 40;
const SHORT: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_hours(1);

pub(super) fn check(raw: RawHttp, p: &mut Problems<'_>) -> Http {
    let secs = Duration::from_secs;
    let connections = 1..=listener::MAX_CONNECTIONS;
    Http {
        max_connections: bounds::number(
            "max_connections",
            raw.max_connections,
            50_000,
            connections.clone(),
            p,
        ),
        max_connections_per_source: bounds::number(
            "max_connections_per_source",
            raw.max_connections_per_source,
            1024,
            connections,
            p,
        ),
        max_header_bytes: bounds::size(
            "max_header_bytes",
            raw.max_header_bytes,
            64 << 10,
            1024..=MAX_HEADER_BYTES,
            p,
        ),
        max_headers: bounds::number("max_headers", raw.max_headers, 128, 8..=MAX_HEADERS, p),
        max_uri_bytes: bounds::size("max_uri_bytes", raw.max_uri_bytes, 16 << 10, 128..=65_534, p),
        max_body: bounds::size("max_body", raw.max_body, 16 << 20, 0..=64 << 30, p),
        max_memory: max_memory(raw.max_memory, p),
        spare_descriptors: bounds::number("spare_descriptors", raw.spare_descriptors, 256, 0..=1_000_000, p),
        min_rate: bounds::size("min_rate", raw.min_rate, 100, 0..=1 << 20, p),
        h2_streams: bounds::number("h2_streams", raw.h2_streams, 128, 1..=1024, p),
        header_timeout: bounds::duration(
            "header_timeout",
            raw.header_timeout,
            secs(10),
            SHORT..=Duration::from_mins(5),
            p,
        ),
        body_timeout: bounds::duration("body_timeout", raw.body_timeout, secs(15), SHORT..=HOUR, p),
        send_timeout: bounds::duration("send_timeout", raw.send_timeout, secs(30), SHORT..=HOUR, p),
        idle_timeout: bounds::duration("idle_timeout", raw.idle_timeout, secs(60), SHORT..=HOUR, p),
        requests_per_connection: bounds::number(
            "requests_per_connection",
            raw.requests_per_connection,
            100_000,
            1..=1_000_000_000,
            p,
        ),
        methods: methods(raw.methods, p),
        hosts: raw.hosts.map_or_else(Vec::new, |list| hosts(list, p)),
        merge_slashes: raw.merge_slashes.unwrap_or(true),
        sni_must_match_host: raw.sni_must_match_host,
    }
}

/// 0 for no bound, or one that leaves room to work.
fn max_memory(written: Option<Spanned<Size>>, problems: &mut Problems<'_>) -> Option<u64> {
    let written = written?;
    let bytes = written.get_ref().0;
    if bytes != 0 && !(MIN_MEMORY..=MAX_MEMORY).contains(&bytes) {
        problems.at(written.span(), "`max_memory` must be 0 (no bound) or from 32MiB to 16384GiB.");
    }
    Some(bytes)
}

/// Method names, which must be tokens; CONNECT and TRACE can't be allowed.
pub(super) fn methods(written: Option<Spanned<Vec<String>>>, problems: &mut Problems<'_>) -> Vec<String> {
    let Some(list) = written else { return DEFAULT_METHODS.map(str::to_owned).to_vec() };
    let good = |m: &String| {
        !m.is_empty()
            && m.len() <= 32
            && m.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_')
            && m != "CONNECT"
            && m != "TRACE"
    };
    if list.get_ref().is_empty() || list.get_ref().len() > 64 || !list.get_ref().iter().all(good) {
        problems.at(
            list.span(),
            "`methods` holds 1 to 64 method names in capitals; CONNECT and TRACE are never let through.",
        );
    }
    list.into_inner()
}

/// Host patterns: `example.com`, `*.example.com`, an address; without a port; kept in lower case.
pub(super) fn hosts(list: Spanned<Vec<String>>, problems: &mut Problems<'_>) -> Vec<String> {
    let span = list.span();
    if list.get_ref().len() > 4096 {
        problems.at(span.clone(), "`hosts` holds at most 4096 names.");
    }
    list.into_inner()
        .into_iter()
        .map(|host| {
            let name = host.strip_prefix("*.").unwrap_or(&host);
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            let address = name.starts_with('[') && name.ends_with(']');
            if name.is_empty() || name.len() > 253 || !(address || name.bytes().all(plain)) {
                problems.at(
                    span.clone(),
                    format!("`{host}` is not a host: write example.com or *.example.com, without a port."),
                );
            }
            host.to_ascii_lowercase()
        })
        .collect()
}
