//! The first stage: what came is one request with one meaning, and every later stage sees the same one.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TE, UPGRADE};
use http::{Method, Version};

use super::path;
use super::site::HttpRules;
use crate::respond::Denial;
use crate::wire::{Body, strip_hop_by_hop};

/// A request as the server room read it: well-formed, not yet checked.
#[derive(Debug)]
pub struct Incoming {
    /// The method.
    pub method: Method,
    /// The target: origin form, absolute form, or `*`.
    pub target: Bytes,
    /// The authority beside the target (HTTP/2).
    pub authority: Option<Bytes>,
    /// The version.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The body; its pace is bounded once its route is known.
    pub body: Body,
}

/// A request with one meaning.
#[derive(Debug)]
pub(super) struct Conforming {
    pub(super) method: Method,
    /// Path and query, the path in its one form.
    pub(super) target: Bytes,
    /// Length of the path in `target`.
    pub(super) path_len: usize,
    /// Lower case, without port; empty where HTTP/1.0 gave none.
    pub(super) host: Arc<str>,
    pub(super) version: Version,
    /// Without hop-by-hop fields, with exactly one `Host` (none where HTTP/1.0 gave none).
    pub(super) headers: HeaderMap,
    /// Fields that go no further but that the rules see: the framing, and names with `_`.
    pub(super) withheld: HeaderMap,
    pub(super) body: Body,
    /// `Upgrade`, where the request wants to switch protocols.
    pub(super) upgrade: Option<HeaderValue>,
    /// Whether the client reads trailers.
    pub(super) wants_trailers: bool,
}

impl Conforming {
    pub(super) fn path(&self) -> &[u8] {
        self.target.get(..self.path_len).unwrap_or_default()
    }

    /// What follows the question mark, if there is one.
    pub(super) fn query(&self) -> Option<&[u8]> {
        self.target.get(self.path_len + 1..)
    }
}

/// Checks a request and brings it into its one form.
pub(super) fn conform(incoming: Incoming, rules: &HttpRules) -> Result<Conforming, Denial> {
    let Incoming { method, target, authority, version, mut headers, body } = incoming;
    if !rules.methods.contains(&method) {
        return Err(Denial::Method { allow: Arc::clone(&rules.allow) });
    }
    let (target, of_target) = split_target(&method, target)?;
    let host = one_host(of_target.or(authority), version, &mut headers)?;
    if !rules.hosts.is_empty() && !rules.serves(&host) {
        return Err(Denial::Misdirected);
    }
    if let Some(expect) = headers.remove(EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Denial::Expectation);
    }
    // Over HTTP/2 only the server room puts it there, for an extended CONNECT: a client's own is malformed.
    let can_switch = matches!(version, Version::HTTP_11 | Version::HTTP_2);
    let upgrade = headers.get(UPGRADE).filter(|_| can_switch).cloned();
    let upgrade = upgrade.filter(|_| wants_upgrade(&headers));
    if upgrade.is_some() && !matches!(body, Body::Empty) {
        return Err(Denial::Request("upgrade_with_body"));
    }
    let wants_trailers = headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let mut withheld = HeaderMap::new();
    for (name, value) in &headers {
        if matches!(name.as_str(), "connection" | "transfer-encoding" | "content-length") {
            withheld.append(name, value.clone());
        }
    }
    strip_hop_by_hop(&mut headers).map_err(Denial::Nomination)?;
    // The length travels with the body; the next hop writes its own.
    headers.remove(CONTENT_LENGTH);
    withhold_ambiguous_names(&mut headers, &mut withheld);
    let (target, path_len) = one_path(target, rules.merge_slashes)?;
    Ok(Conforming {
        method,
        target,
        path_len,
        host,
        version,
        headers,
        withheld,
        body,
        upgrade,
        wants_trailers,
    })
}

/// Path and query, and the authority of an absolute target.
fn split_target(method: &Method, target: Bytes) -> Result<(Bytes, Option<Bytes>), Denial> {
    if target.first() == Some(&b'/') {
        return Ok((target, None));
    }
    if *target == *b"*" && *method == Method::OPTIONS {
        return Ok((target, None));
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|s| target.get(..s.len()).is_some_and(|t| t.eq_ignore_ascii_case(s)))
        .ok_or(Denial::Request("target_form"))?;
    let rest = target.slice(scheme.len()..);
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let authority = rest.slice(..end);
    let path = match rest.get(end) {
        None => Bytes::from_static(b"/"),
        Some(b'/') => rest.slice(end..),
        Some(_) => [b"/", &rest[end..]].concat().into(),
    };
    Ok((path, Some(authority)))
}

/// The one host, which every way of naming it must agree on.
fn one_host(named: Option<Bytes>, version: Version, headers: &mut HeaderMap) -> Result<Arc<str>, Denial> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Denial::Request("duplicate_host"));
    }
    let agreed = match (&named, field) {
        (Some(named), Some(field)) => {
            if !named.eq_ignore_ascii_case(field.as_bytes()) {
                return Err(Denial::Request("host_mismatch"));
            }
            field.as_bytes()
        }
        (Some(named), None) => named,
        (None, Some(field)) => field.as_bytes(),
        (None, None) if version == Version::HTTP_10 => return Ok(Arc::from("")),
        (None, None) => return Err(Denial::Request("no_host")),
    };
    let host = host_of(agreed).ok_or(Denial::Request("host_syntax"))?;
    if field.is_none()
        && let Some(named) = named
    {
        let value = HeaderValue::from_maybe_shared(named).map_err(|_| Denial::Request("host_syntax"))?;
        headers.insert(HOST, value);
    }
    Ok(host)
}

/// The host of `host[:port]` in lower case; `None` for anything else.
fn host_of(authority: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(authority).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            inside.parse::<std::net::Ipv6Addr>().ok()?;
            (&text[..inside.len() + 2], after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, port),
            None => (text, ""),
        },
    };
    let good_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let good_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let good_host = host.starts_with('[') || host.bytes().all(good_name);
    if host.is_empty() || host.len() > 255 || !good_port || !good_host {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let lower = if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Arc::from(host.to_ascii_lowercase())
    } else {
        Arc::from(host)
    };
    Some(lower)
}

/// The target with its path in one form, and the path's length.
fn one_path(target: Bytes, merge_slashes: bool) -> Result<(Bytes, usize), Denial> {
    if *target == *b"*" {
        return Ok((target, 1));
    }
    let end = memchr::memchr(b'?', &target).unwrap_or(target.len());
    let normal = path::normalise(&target[..end], merge_slashes).map_err(|e| Denial::Request(e.code()))?;
    match normal {
        std::borrow::Cow::Borrowed(_) => Ok((target, end)),
        std::borrow::Cow::Owned(mut path) => {
            let len = path.len();
            path.extend_from_slice(&target[end..]);
            Ok((path.into(), len))
        }
    }
}

/// Whether `Connection` holds `upgrade`.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    })
}

/// Sends no field with `_` in its name on: many servers read `X_Forwarded_For` as `X-Forwarded-For`.
fn withhold_ambiguous_names(headers: &mut HeaderMap, withheld: &mut HeaderMap) {
    let ambiguous = |name: &http::HeaderName| name.as_str().as_bytes().contains(&b'_');
    if headers.keys().any(ambiguous) {
        let names: Vec<_> = headers.keys().filter(|n| ambiguous(n)).cloned().collect();
        for name in names {
            for value in headers.get_all(&name) {
                withheld.append(&name, value.clone());
            }
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
