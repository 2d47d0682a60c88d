//! The backend that the suites expect (albedo): `POST /reflect` answers with the response that its JSON body describes,
//! anything else with an empty 200.

use base64::Engine as _;
use serde_json::Value;

/// A response of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Fields in the order sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// With the fields that a server adds: Content-Length and, for a body that says nothing of its type, one.
    fn finished(mut self) -> Self {
        let has = |headers: &[(String, String)], name: &str| {
            headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        if !self.body.is_empty() && !has(&self.headers, "Content-Type") {
            self.headers.push(("Content-Type".to_owned(), sniff(&self.body).to_owned()));
        }
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Content-Length"));
        self.headers.push(("Content-Length".to_owned(), self.body.len().to_string()));
        self
    }
}

/// What the backend answers.
pub fn answer(method: &[u8], uri: &[u8], body: &[u8]) -> Response {
    let path = uri.split(|&b| b == b'?').next().unwrap_or_default();
    if method == b"POST" && (path == b"/reflect" || path == b"/reflect/") {
        reflect(body).unwrap_or_else(|| Response::empty(400)).finished()
    } else {
        Response::empty(200).finished()
    }
}

fn reflect(body: &[u8]) -> Option<Response> {
    let spec: Value = serde_json::from_slice(body).ok()?;
    let status = match spec.get("status") {
        None | Some(Value::Null) => 200,
        Some(status) => u16::try_from(status.as_u64()?).ok().filter(|s| (100..600).contains(s))?,
    };
    let mut headers = Vec::new();
    if let Some(map) = spec.get("headers").and_then(Value::as_object) {
        for (name, value) in map {
            headers.push((name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
    }
    let text = |key: &str| spec.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let body = match (text("body"), text("encodedBody")) {
        (Some(body), _) => body.as_bytes().to_vec(),
        (None, Some(encoded)) => base64::engine::general_purpose::STANDARD.decode(encoded).ok()?,
        (None, None) => Vec::new(),
    };
    Some(Response { status, headers, body })
}

/// Go's server looks at the first bytes of a body without a type; the types that matter here.
fn sniff(body: &[u8]) -> &'static str {
    let start = body.trim_ascii_start();
    let tag = |tag: &[u8]| {
        start.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag))
            && start.get(tag.len()).is_none_or(|&b| b == b' ' || b == b'>')
    };
    const TAGS: [&[u8]; 17] = [
        b"<!DOCTYPE HTML",
        b"<HTML",
        b"<HEAD",
        b"<SCRIPT",
        b"<IFRAME",
        b"<H1",
        b"<DIV",
        b"<FONT",
        b"<TABLE",
        b"<A",
        b"<STYLE",
        b"<TITLE",
        b"<B",
        b"<BODY",
        b"<BR",
        b"<P",
        b"<!--",
    ];
    if TAGS.iter().any(|t| tag(t)) {
        "text/html; charset=utf-8"
    } else if start.starts_with(b"<?xml") {
        "text/xml; charset=utf-8"
    } else if body.iter().take(512).any(|&b| b < 0x20 && !matches!(b, b'\t' | b'\n' | 0x0c | b'\r' | 0x1b)) {
        "application/octet-stream"
    } else {
        "text/plain; charset=utf-8"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, uri: &str, body: &str, status: u16, kind: Option<&str>, expected: &str) {
        let response = answer(method.as_bytes(), uri.as_bytes(), body.as_bytes());
        let found = response.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("content-type"));
        assert_eq!(response.status, status, "{body}");
        assert_eq!(found.map(|(_, v)| v.as_str()), kind, "{body}");
        assert_eq!(response.body, expected.as_bytes(), "{body}");
    }

    #[test]
    fn reflections() {
        let text = Some("text/plain; charset=utf-8");
        check("GET", "/anything", "", 200, None, "");
        check("GET", "/reflect", "{\"status\":500}", 200, None, "");
        check("POST", "/reflect", "{\"status\":500}", 500, None, "");
        check("POST", "/reflect?x=1", "{\"body\":\"hi\"}", 200, text, "hi");
        check(
            "POST",
            "/reflect",
            "{\"encodedBody\":\"aGk=\",\"headers\":{\"Content-Type\":\"a/b\"}}",
            200,
            Some("a/b"),
            "hi",
        );
        check("POST", "/reflect", "{\"body\":\"<p>x\"}", 200, Some("text/html; charset=utf-8"), "<p>x");
        check("POST", "/reflect", "not json", 400, None, "");
    }
}
