//! `request_headers` and `response_headers` of a route: fields that are set or taken off on the way.

use std::collections::BTreeMap;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use serde::Deserialize;
use toml::Spanned;

use crate::config::Problems;

/// Most fields that a route sets, and most that it takes off, in each direction.
pub const MAX_REWRITTEN: usize = 32;
/// Longest value that is set, in bytes.
pub const MAX_REWRITTEN_VALUE: usize = 4096;

/// Fields of one connection or of the framing: the gateway writes its own.
const OF_CONNECTION: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// What the gateway says of the client, of the request and of itself.
const OURS: [&str; 9] = [
    "keep-alive",
    "proxy-connection",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "traceparent",
    "tracestate",
];

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRewrite {
    set: BTreeMap<String, String>,
    remove: Vec<String>,
}

/// Which messages are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// Fields to set and to take off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Set to exactly this value, in the order of their names; at most [`MAX_REWRITTEN`].
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Taken off; at most [`MAX_REWRITTEN`].
    pub remove: Vec<HeaderName>,
}

impl Rewrite {
    /// Takes fields off, then sets fields.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }
}

pub(super) fn check(
    direction: Direction,
    raw: Option<Spanned<RawRewrite>>,
    problems: &mut Problems<'_>,
) -> Rewrite {
    let Some(raw) = raw else { return Rewrite::default() };
    let span = raw.span();
    let RawRewrite { set, remove } = raw.into_inner();
    if set.len() > MAX_REWRITTEN || remove.len() > MAX_REWRITTEN {
        problems.at(
            span.clone(),
            format!("a route sets at most {MAX_REWRITTEN} fields and takes off as many in each direction."),
        );
    }
    let mut name = |text: &str, is_removed: bool| match text.parse::<HeaderName>() {
        Err(_) => {
            problems.at(span.clone(), format!("`{text}` is not a header name."));
            None
        }
        Ok(name) if is_the_gateways(&name, direction, is_removed) => {
            problems.at(span.clone(), format!("`{name}` is the gateway's own to write: leave it out here."));
            None
        }
        Ok(name) => Some(name),
    };
    let remove = remove.iter().filter_map(|text| name(text, true)).collect();
    let named: Vec<_> = set.iter().filter_map(|(text, value)| Some((name(text, false)?, value))).collect();
    let mut value = |text: &str| match HeaderValue::from_str(text) {
        Ok(value) if text.len() <= MAX_REWRITTEN_VALUE => Some(value),
        _ => {
            problems.at(
                span.clone(),
                format!("a value has at most {MAX_REWRITTEN_VALUE} bytes of visible ASCII and blanks."),
            );
            None
        }
    };
    let set = named.into_iter().filter_map(|(name, text)| Some((name, value(text)?))).collect();
    Rewrite { set, remove }
}

/// Whether a field is written by the gateway. A request's `Host` may be replaced, but there must be one.
fn is_the_gateways(name: &HeaderName, direction: Direction, is_removed: bool) -> bool {
    OF_CONNECTION.contains(name)
        || OURS.contains(&name.as_str())
        || (direction == Direction::Request && *name == FORWARDED)
        || (direction == Direction::Request && *name == HOST && is_removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_off_then_sets() {
        let name = |text: &str| text.parse::<HeaderName>().expect("a name");
        let rewrite = Rewrite {
            set: vec![
                (name("x-a"), HeaderValue::from_static("new")),
                (name("x-b"), HeaderValue::from_static("b")),
            ],
            remove: vec![name("x-a"), name("x-c")],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-c", "3"), ("x-d", "4")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        rewrite.apply(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap_or(""))).collect();
        left.sort();
        assert_eq!(left, ["x-a: new", "x-b: b", "x-d: 4"]);
    }
}
