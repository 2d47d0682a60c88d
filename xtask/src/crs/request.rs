//! Requests put together byte for byte as go-ftw does.
//!
//! Header values may hold anything on purpose: breaking HTTP is what many tests are for.

use super::suite::{Input, Parts};

const URLENCODED: &str = "application/x-www-form-urlencoded";

/// The raw requests of an input, one for each URI.
pub fn build(input: &Input) -> Vec<Vec<u8>> {
    match input {
        Input::Raw(bytes) => vec![bytes.clone()],
        Input::Parts(parts) => parts.uris.iter().map(|uri| build_one(parts, uri)).collect(),
    }
}

fn build_one(parts: &Parts, uri: &str) -> Vec<u8> {
    let mut headers = parts.headers.clone();
    let mut data = parts.data.clone().unwrap_or_default();
    if !data.is_empty() && parts.autocomplete_headers {
        if !has(&headers, "Content-Type") {
            headers.push(("Content-Type".to_owned(), URLENCODED.to_owned()));
        }
        if any(&headers, "Content-Type", |value| value.eq_ignore_ascii_case(URLENCODED)) {
            data = escape_form(&data);
        }
    }
    if any(&headers, "Content-Type", |value| value.to_lowercase().contains("multipart/form-data;")) {
        data = line_feeds_to_crlf(&data, parts.is_old);
    }
    if parts.autocomplete_headers {
        if !has(&headers, "Connection") {
            headers.push(("Connection".to_owned(), "close".to_owned()));
        }
        let may_have_body = !parts.is_old && may_have_body(&parts.method);
        if !has(&headers, "Content-Length") && (!data.is_empty() || may_have_body) {
            headers.push(("Content-Length".to_owned(), data.len().to_string()));
        }
    }
    let mut out = format!("{} {uri} {}\r\n", parts.method, parts.version).into_bytes();
    for (name, value) in &headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&data);
    out
}

fn has(headers: &[(String, String)], name: &str) -> bool {
    headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
}

fn any(headers: &[(String, String)], name: &str, test: impl Fn(&str) -> bool) -> bool {
    headers.iter().any(|(n, value)| n.eq_ignore_ascii_case(name) && test(value))
}

/// go-ftw asks a pattern whose alternation is loose at the ends: `^POST|PUT|PATCH|DELETE$`.
fn may_have_body(method: &str) -> bool {
    method.starts_with("POST")
        || method.contains("PUT")
        || method.contains("PATCH")
        || method.ends_with("DELETE")
}

/// `spare_crlf`: line ends that are CRLF already stay so, as in suites of CRS 3.
fn line_feeds_to_crlf(data: &[u8], spare_crlf: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + data.len() / 16);
    for &byte in data {
        if byte == b'\n' && !(spare_crlf && out.last() == Some(&b'\r')) {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}

/// Escapes names and values of a form, unless it looks escaped already: unescaping would change it (or fail).
fn escape_form(data: &[u8]) -> Vec<u8> {
    if data.iter().any(|&b| b == b'%' || b == b'+') {
        return data.to_vec();
    }
    let mut out = Vec::with_capacity(data.len() * 2);
    let mut rest = Some(data);
    while let Some(current) = rest.filter(|r| !r.is_empty()) {
        let (token, tail) = match current.iter().position(|&b| b == b'&') {
            Some(at) => (&current[..at], Some(&current[at + 1..])),
            None => (current, None),
        };
        rest = tail;
        match token.iter().position(|&b| b == b'=') {
            Some(at) => {
                query_escape(&token[..at], &mut out);
                out.push(b'=');
                query_escape(&token[at + 1..], &mut out);
            }
            None => query_escape(token, &mut out),
        }
        out.push(b'&');
    }
    out.pop();
    out
}

/// Go's `url.QueryEscape`: all but unreserved characters as %XX, space as `+`.
fn query_escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(
        method: &str,
        headers: &[(&str, &str)],
        data: Option<&str>,
        autocomplete_headers: bool,
    ) -> Parts {
        Parts {
            method: method.to_owned(),
            uris: vec!["/x".to_owned()],
            version: "HTTP/1.1".to_owned(),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            data: data.map(|d| d.as_bytes().to_vec()),
            autocomplete_headers,
            is_old: false,
        }
    }

    #[test]
    fn requests_are_built_as_go_ftw_builds_them() {
        let form = ("Content-Type", URLENCODED);
        let rows: [(Parts, &str); 9] = [
            (
                parts("GET", &[("Host", "h")], None, true),
                "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            ),
            (parts("GET", &[], None, false), "GET /x HTTP/1.1\r\n\r\n"),
            (
                parts("POST", &[], None, true),
                "POST /x HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                parts("POST", &[], Some("a=b c&d"), true),
                "POST /x HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\
                 Content-Length: 7\r\n\r\na=b+c&d",
            ),
            (
                parts("POST", &[form], Some("a=%20'"), true),
                "POST /x HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\
                 Content-Length: 6\r\n\r\na=%20'",
            ),
            (
                parts("POST", &[form], Some("a='"), true),
                "POST /x HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\
                 Content-Length: 5\r\n\r\na=%27",
            ),
            (
                parts("POST", &[("Content-Type", "multipart/form-data; boundary=b")], Some("--b\n"), true),
                "POST /x HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\nConnection: close\r\n\
                 Content-Length: 5\r\n\r\n--b\r\n",
            ),
            (
                parts("POST", &[("content-length", "1"), ("Content-Type", "text/plain")], Some("a b"), true),
                "POST /x HTTP/1.1\r\ncontent-length: 1\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\na b",
            ),
            (parts("POST", &[], Some("a b"), false), "POST /x HTTP/1.1\r\n\r\na b"),
        ];
        for (parts, expected) in rows {
            let built = build(&Input::Parts(parts));
            assert_eq!(built.len(), 1);
            assert_eq!(String::from_utf8_lossy(&built[0]), expected);
        }
    }

    #[test]
    fn suites_of_crs_3_change_less() {
        let multipart = ("Content-Type", "multipart/form-data; boundary=b");
        let rows = [
            (parts("POST", &[multipart], Some("--b\r\nx\n"), false), "--b\r\nx\r\n"),
            (parts("POST", &[], None, true), "POST /x HTTP/1.1\r\nConnection: close\r\n\r\n"),
        ];
        for (parts, end) in rows {
            let built = build(&Input::Parts(Parts { is_old: true, ..parts }));
            assert!(String::from_utf8_lossy(&built[0]).ends_with(end), "{end:?}");
        }
    }

    #[test]
    fn raw_requests_pass_through() {
        assert_eq!(build(&Input::Raw(b"\0x".to_vec())), [b"\0x".to_vec()]);
    }
}
