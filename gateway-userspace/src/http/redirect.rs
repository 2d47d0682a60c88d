//! The answer of a listener that only sends clients to `https`.

use bytes::Bytes;
use http::HeaderValue;

use crate::pipeline::Incoming;
use crate::respond::Denial;

/// Where a request of a plain listener is sent. Without a usable host there is no such place.
pub(super) fn to_https(incoming: &Incoming, port: u16) -> Denial {
    let host = incoming
        .authority
        .as_deref()
        .or_else(|| incoming.headers.get(http::header::HOST).map(HeaderValue::as_bytes));
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'[' | b']' | b':');
    let name = host.filter(|h| !h.is_empty() && h.iter().all(good)).map(without_port);
    let location = name.and_then(|name| {
        let mut location = b"https://".to_vec();
        location.extend_from_slice(name);
        if port != 443 {
            location.extend_from_slice(format!(":{port}").as_bytes());
        }
        let target = if incoming.target.first() == Some(&b'/') { &incoming.target[..] } else { b"/" };
        location.extend_from_slice(target);
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok()
    });
    location.map_or(Denial::Request("no_host"), |location| Denial::Secure { location })
}

fn without_port(host: &[u8]) -> &[u8] {
    let digits = host.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    match host[..host.len() - digits].strip_suffix(b":") {
        // A bare IPv6 address has more colons; in brackets the port comes after the bracket.
        Some(name) if !name.contains(&b':') || name.ends_with(b"]") => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Version};

    use super::*;
    use crate::wire::Body;

    #[test]
    fn places() {
        for (host, port, target, expected) in [
            ("a.test", 443, "/x?y", Some("https://a.test/x?y")),
            ("a.test:80", 8443, "/x", Some("https://a.test:8443/x")),
            ("[::1]:80", 443, "/", Some("https://[::1]/")),
            ("[::1]", 443, "/", Some("https://[::1]/")),
            ("a.test/evil", 443, "/", None),
            ("", 443, "/", None),
            ("a.test", 443, "http://b.test/", Some("https://a.test/")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::HOST, host.parse().expect("value"));
            let incoming = Incoming {
                method: Method::GET,
                target: Bytes::from_static(target.as_bytes()),
                authority: None,
                version: Version::HTTP_11,
                headers,
                body: Body::Empty,
            };
            let got = match to_https(&incoming, port) {
                Denial::Secure { location } => Some(location),
                _ => None,
            };
            assert_eq!(got.as_ref().map(|l| l.to_str().expect("text")), expected, "{host} {port} {target}");
        }
    }
}
