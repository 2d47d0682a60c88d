//! What the upstream is told about the client: ours alone, nothing of what the client claimed.

use bytes::Bytes;
use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};

use super::router::below;
use super::trace::Trace;
use crate::client::Reach;
use crate::config::edge::{PathMatch, Route};
use crate::respond::REQUEST_ID;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields by which a client could speak in the gateway's name.
const CLAIMS: [&str; 9] = [
    "x-client-cert-sha256",
    "x-client-cert-names",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-prefix",
    "x-original-url",
    "x-rewrite-url",
    "x-client-ip",
    "true-client-ip",
];

/// Sets the forwarding fields. `is_trusted` is whether the peer is a proxy whose chain is carried on.
pub(super) fn describe_client(headers: &mut HeaderMap, trace: &Trace, is_trusted: bool) {
    let from = trace.peer.relayed.unwrap_or(trace.peer.socket).ip().to_canonical();
    let chain = match headers.remove(&X_FORWARDED_FOR) {
        Some(before) if is_trusted => {
            let mut text = before.as_bytes().to_vec();
            text.extend_from_slice(b", ");
            text.extend_from_slice(from.to_string().as_bytes());
            HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
        }
        _ => None,
    };
    let client = HeaderValue::from_str(&trace.client.addr().to_string()).ok();
    if !is_trusted {
        for name in CLAIMS {
            headers.remove(name);
        }
    }
    headers.remove(FORWARDED);
    if let Some(value) = chain.or_else(|| client.clone()) {
        headers.insert(&X_FORWARDED_FOR, value);
    }
    if let Some(value) = client {
        headers.insert(&X_REAL_IP, value);
    }
    let is_behind = matches!(trace.client.reach(), Reach::Behind(_));
    if !(is_trusted && is_behind && headers.contains_key(&X_FORWARDED_PROTO)) {
        let scheme = if trace.peer.tls.is_some() { "https" } else { "http" };
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(&X_FORWARDED_HOST, host);
    }
    headers.insert(&REQUEST_ID, trace.request_id.clone());
    if let Some(certificate) = trace.peer.tls.as_ref().and_then(|t| t.client_certificate.as_ref()) {
        for (name, value) in [
            ("x-client-cert-sha256", certificate.sha256.as_ref()),
            ("x-client-cert-names", &certificate.names.join(",")),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
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
                replace_prefix: replacement.map(str::to_owned),
                upgrade: false,
                headers: Vec::new(),
                security_headers: crate::config::edge::SecurityProfile::Off,
                override_security_headers: false,
                cors: None,
            };
            let got = rewrite(&route, Bytes::from_static(target.as_bytes()), path_len);
            assert_eq!(String::from_utf8_lossy(&got), expected, "{prefix} {replacement:?} {target}");
        }
    }
}
