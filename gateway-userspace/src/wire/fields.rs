//! Fields that concern one connection only (RFC 9110, section 7.6.1), and writing fields.

use http::Version;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName,
};

/// `Connection` names a field that is not its to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Connection names a field that must reach the server")]
pub struct NominationError;

/// End-to-end fields: a `Connection` that names one wants it removed on the way, which changes what the
/// server understands of the request.
static NEVER_NOMINATED: [HeaderName; 6] =
    [HOST, CONTENT_LENGTH, CONTENT_TYPE, AUTHORIZATION, COOKIE, FORWARDED];

/// Removes the hop-by-hop fields and those that `Connection` nominates.
///
/// # Errors
/// When `Connection` nominates an end-to-end field that carries meaning or identity.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> Result<(), NominationError> {
    if headers.contains_key(CONNECTION) {
        let mut nominated: Vec<HeaderName> = Vec::new();
        for value in headers.get_all(CONNECTION) {
            for token in value.as_bytes().split(|b| *b == b',') {
                let token = token.trim_ascii();
                if token.is_empty()
                    || token.eq_ignore_ascii_case(b"close")
                    || token.eq_ignore_ascii_case(b"keep-alive")
                    || token.eq_ignore_ascii_case(b"upgrade")
                {
                    continue;
                }
                let name = HeaderName::from_bytes(token).map_err(|_| NominationError)?;
                if NEVER_NOMINATED.contains(&name) || name.as_str().starts_with("x-") {
                    return Err(NominationError);
                }
                nominated.push(name);
            }
        }
        headers.remove(CONNECTION);
        for name in nominated {
            headers.remove(name);
        }
    }
    remove_where(headers, is_hop_by_hop);
    Ok(())
}

/// Whether a field concerns one connection only.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether whoever sent these fields wants its connection kept (RFC 9112, section 9.3).
pub fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let says = |token: &[u8]| {
        headers.get_all(CONNECTION).iter().any(|value| {
            value.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token))
        })
    };
    if version == Version::HTTP_10 { says(b"keep-alive") && !says(b"close") } else { !says(b"close") }
}

/// Removes the fields whose names `is_meant` picks. Most messages have none of those that anybody looks for: then this
/// is one walk over the names, which costs less than to look up each.
pub fn remove_where(headers: &mut HeaderMap, is_meant: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_meant(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// Appends the fields as lines.
pub fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop() {
        for (fields, expected) in [
            (&[("connection", "keep-alive"), ("a", "b")][..], Some("a")),
            (&[("connection", "close, foo"), ("foo", "1"), ("a", "b")], Some("a")),
            (&[("connection", "Upgrade"), ("upgrade", "websocket"), ("a", "b")], Some("a")),
            (&[("te", "trailers"), ("keep-alive", "5"), ("proxy-connection", "x")], Some("")),
            (&[("connection", "host"), ("host", "a")], None),
            (&[("connection", "Cookie"), ("cookie", "a")], None),
            (&[("connection", "x-forwarded-for")], None),
            (&[("connection", "content-length")], None),
            (&[("connection", "a b")], None),
            (&[("connection", "a"), ("connection", "b"), ("a", "1"), ("b", "1"), ("c", "1")], Some("c")),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().expect("value"));
            }
            let got = strip_hop_by_hop(&mut headers).ok();
            let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(got.map(|()| left.join(",")).as_deref(), expected, "{fields:?}");
        }
    }
    #[test]
    fn connections_are_kept() {
        for (version, values, expected) in [
            (Version::HTTP_11, &[][..], true),
            (Version::HTTP_11, &["Upgrade, CLOSE"], false),
            (Version::HTTP_11, &["keep-alive", "close"], false),
            (Version::HTTP_11, &["closed"], true),
            (Version::HTTP_10, &[], false),
            (Version::HTTP_10, &["Keep-Alive"], true),
            (Version::HTTP_10, &["keep-alive, close"], false),
        ] {
            let headers = values.iter().map(|v| (CONNECTION, v.parse().expect("value"))).collect();
            assert_eq!(keeps_alive(version, &headers), expected, "{version:?} {values:?}");
        }
    }
}
