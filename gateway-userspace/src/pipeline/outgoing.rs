//! What the upstream is told about the client: ours alone, nothing of what the client claimed.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};

use super::Worker;
use super::router::below;
use super::trace::Trace;
use super::worker::hex;
use crate::client::{ForwardedHeader, Reach};
use crate::config::edge::{ClientHeaders, PathMatch, Route};
use crate::respond::REQUEST_ID;
use crate::wire::remove_where;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest `traceparent` of a later version that is carried on, in bytes.
const MAX_TRACEPARENT: usize = 256;

/// Whether a client could speak in the gateway's name by a field. Fields that are set anyway are not among them.
fn is_claim(name: &str) -> bool {
    matches!(
        name,
        "x-forwarded-port"
            | "x-forwarded-server"
            | "x-forwarded-prefix"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-client-ip"
            | "true-client-ip"
    )
}

/// Sets the forwarding fields. `carried` is the field whose chain is carried on, where the peer is a trusted proxy.
pub(super) fn describe_client(headers: &mut HeaderMap, trace: &Trace, carried: Option<ForwardedHeader>) {
    let is_trusted = carried.is_some();
    let (from, from_text) = (trace.peer.from(), trace.peer.from_text());
    let client = trace.client.addr();
    let scheme = if trace.peer.tls.is_some() { "https" } else { "http" };
    if !is_trusted {
        remove_where(headers, is_claim);
    }
    let mut chain = String::new();
    if carried == Some(ForwardedHeader::XForwardedFor) {
        carry_on(&mut chain, headers, &X_FORWARDED_FOR);
    }
    let mut forwarded = String::with_capacity(96);
    if carried == Some(ForwardedHeader::Forwarded) {
        carry_on(&mut forwarded, headers, &FORWARDED);
    }
    // Writing to a String doesn't fail.
    if chain.is_empty() && client != from {
        let _ = write!(chain, "{client}, ");
    }
    if forwarded.is_empty() && client != from {
        write_for(&mut forwarded, client, &client.to_string());
        forwarded.push_str(", ");
    }
    write_for(&mut forwarded, from, from_text.to_str().unwrap_or("unknown"));
    let host = headers.get(HOST).cloned();
    if let Some(host) = host.as_ref().and_then(|h| h.to_str().ok()) {
        for part in [";host=\"", host, "\""] {
            forwarded.push_str(part);
        }
    }
    forwarded.push_str(if trace.peer.tls.is_some() { ";proto=https" } else { ";proto=http" });
    set_text(headers, &FORWARDED, forwarded);
    if chain.is_empty() {
        headers.insert(&X_FORWARDED_FOR, from_text.clone());
    } else {
        chain.push_str(from_text.to_str().unwrap_or("unknown"));
        set_text(headers, &X_FORWARDED_FOR, chain);
    }
    if client == from {
        headers.insert(&X_REAL_IP, from_text.clone());
    } else {
        set_text(headers, &X_REAL_IP, client.to_string());
    }
    let is_behind = matches!(trace.client.reach(), Reach::Behind(_));
    if !(is_trusted && is_behind && headers.contains_key(&X_FORWARDED_PROTO)) {
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if let Some(host) = host {
        headers.insert(&X_FORWARDED_HOST, host);
    }
    headers.insert(&REQUEST_ID, trace.request_id.clone());
}

fn set_text(headers: &mut HeaderMap, name: &HeaderName, text: String) {
    match HeaderValue::from_maybe_shared(Bytes::from(text)) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

/// Tells the upstream of the client's certificate, and takes away what a client says of one. A trusted proxy that has
/// checked a certificate itself may say so, where this listener asks for none.
pub(super) fn describe_certificate(
    headers: &mut HeaderMap,
    trace: &Trace,
    names: &ClientHeaders,
    is_told: bool,
    is_trusted: bool,
) {
    let asks = trace.peer.tls.as_ref().is_some_and(|tls| tls.asks_certificate);
    if is_trusted && !asks {
        return;
    }
    remove_where(headers, |name| names.all().iter().any(|ours| name.eq_ignore_ascii_case(ours)));
    if !asks || !is_told {
        return;
    }
    let mut set = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    };
    let Some(certificate) = trace.certificate() else {
        set(&names.verify, "NONE");
        return;
    };
    set(&names.verify, "SUCCESS");
    set(&names.subject, &certificate.subject);
    set(&names.issuer, &certificate.issuer);
    set(&names.names, &certificate.alternatives);
    set(&names.sha256, &certificate.sha256);
}

/// Puts a trusted peer's list before ours, its lines joined.
fn carry_on(out: &mut String, headers: &HeaderMap, name: &HeaderName) {
    for line in headers.get_all(name).iter().filter_map(|v| v.to_str().ok()) {
        out.push_str(line);
        out.push_str(", ");
    }
}

/// `for=` with a node (RFC 7239, section 6): an IPv6 address in brackets and quotes. `text` is that of `addr`.
fn write_for(out: &mut String, addr: IpAddr, text: &str) {
    let (before, after) = if addr.is_ipv4() { ("for=", "") } else { ("for=\"[", "]\"") };
    for part in [before, text, after] {
        out.push_str(part);
    }
}

/// Sees to it that the request carries a W3C trace context: a valid one of the client's goes on as it is with its
/// `tracestate`; else one is made whose trace id is the request's id where that is ours, so that traces and log lines
/// find each other.
pub(super) fn trace_context(headers: &mut HeaderMap, trace: &Trace, worker: &Worker) {
    let mut given = headers.get_all(&TRACEPARENT).iter();
    if let (Some(one), None) = (given.next(), given.next())
        && is_traceparent(one.as_bytes())
    {
        return;
    }
    headers.remove(&TRACESTATE);
    let id = trace.request_id();
    let is_ours = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut text = Vec::with_capacity(55);
    text.extend_from_slice(b"00-");
    if is_ours && id.bytes().any(|b| b != b'0') {
        text.extend_from_slice(id.as_bytes());
    } else {
        text.extend_from_slice(&hex(worker.random() | 1));
        text.extend_from_slice(&hex(worker.random()));
    }
    text.push(b'-');
    text.extend_from_slice(&hex(worker.random() | 1));
    text.extend_from_slice(b"-01");
    match HeaderValue::from_maybe_shared(Bytes::from(text)) {
        Ok(value) => headers.insert(&TRACEPARENT, value),
        Err(_) => headers.remove(&TRACEPARENT),
    };
}

/// `version-trace_id-parent_id-flags` (W3C Trace Context, section 3.2); later versions may go on behind it.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let some = |part: &[u8]| hex(part) && part.iter().any(|b| *b != b'0');
    let (Some(head), Some(rest)) = (value.get(..55), value.get(55..)) else { return false };
    let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
    let version = &head[..2];
    dashes
        && hex(version)
        && version != b"ff"
        && some(&head[3..35])
        && some(&head[36..52])
        && hex(&head[53..])
        && (rest.is_empty() || (version != b"00" && rest[0] == b'-'))
        && value.len() <= MAX_TRACEPARENT
}

/// The target as the upstream sees it: the route's prefix replaced where it says so.
pub(super) fn rewrite(route: &Route, target: Bytes, path_len: usize) -> Bytes {
    let (Some(replacement), PathMatch::Prefix(prefix)) = (&route.replace_prefix, &route.path) else {
        return target;
    };
    let Some(rest) = target.get(..path_len).and_then(|path| below(prefix.as_bytes(), path)) else {
        return target;
    };
    let mut out = replacement.trim_end_matches('/').as_bytes().to_vec();
    if !rest.starts_with(b"/") {
        out.push(b'/');
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&target[path_len..]);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_contexts() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (value, expected) in [
            (format!("00-{id}-00f067aa0ba902b7-01"), true),
            (format!("00-{id}-00f067aa0ba902b7-00"), true),
            (format!("01-{id}-00f067aa0ba902b7-01-more"), true),
            (format!("00-{id}-00f067aa0ba902b7-01-more"), false),
            (format!("00-{id}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()), false),
            (format!("ff-{id}-00f067aa0ba902b7-01"), false),
            (format!("00-{id}-00f067aa0ba902b7"), false),
            (format!("01-{id}-00f067aa0ba902b7-01-{}", "x".repeat(300)), false),
            (String::new(), false),
        ] {
            assert_eq!(is_traceparent(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn rewrites_the_prefix() {
        for (prefix, replacement, target, path_len, expected) in [
            ("/api", Some("/"), "/api/x?y", 6, "/x?y"),
            ("/api", Some("/"), "/api", 4, "/"),
            ("/api", Some("/v2"), "/api/x", 6, "/v2/x"),
            ("/api/", Some("/v2/"), "/api/x", 6, "/v2/x"),
            ("/api", None, "/api/x", 6, "/api/x"),
        ] {
            let route = Route {
                name: "r".into(),
                hosts: Vec::new(),
                path: PathMatch::Prefix(prefix.to_owned()),
                methods: None,
                upstream: 0,
                waf: None,
                waf_policy: 0,
                max_body: None,
                total_timeout: None,
                body_timeout: None,
                min_rate: None,
                connect_timeout: None,
                response_timeout: None,
                replace_prefix: replacement.map(str::to_owned),
                upgrade: false,
                headers: Vec::new(),
                request_headers: crate::config::edge::Rewrite::default(),
                response_headers: crate::config::edge::Rewrite::default(),
                security_headers: crate::config::edge::SecurityProfile::Off,
                override_security_headers: false,
                cors: None,
                clients: crate::config::edge::ClientCertificates::default(),
            };
            let got = rewrite(&route, Bytes::from_static(target.as_bytes()), path_len);
            assert_eq!(String::from_utf8_lossy(&got), expected, "{prefix} {replacement:?} {target}");
        }
    }
}
