//! Message heads: the request or status line and the header fields.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

/// What a head may hold.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// First line and fields together, in bytes.
    pub bytes: usize,
    /// Number of fields.
    pub fields: usize,
    /// The request target, in bytes.
    pub target: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A line ends in LF without CR.
    #[error("a line ends in a bare LF")]
    BareLf,
    /// A field continues on the next line (obsolete folding), or the first one begins with a blank.
    #[error("a header line begins with a blank")]
    Folded,
    /// The request line is not `METHOD SP target SP HTTP/1.x`.
    #[error("the first line is malformed")]
    FirstLine,
    /// A version other than 1.0 and 1.1.
    #[error("the HTTP version is not supported")]
    Version,
    /// The method is not a token.
    #[error("the method is malformed")]
    Method,
    /// The target holds a byte that no target may hold.
    #[error("the request target is malformed")]
    Target,
    /// A field without a colon, or with a name that is not a token.
    #[error("a header name is malformed")]
    Name,
    /// A field value with a control character.
    #[error("a header value holds a control character")]
    Value,
    /// More bytes than allowed.
    #[error("the head is too large")]
    TooLarge,
    /// More fields than allowed.
    #[error("there are too many header fields")]
    TooMany,
    /// The target is longer than allowed.
    #[error("the request target is too long")]
    TargetTooLong,
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target as sent.
    pub target: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields in their order.
    pub headers: HeaderMap,
}

/// A response's head.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields in their order.
    pub headers: HeaderMap,
}

/// Looks for the end of a head in a buffer that grows, each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    at: usize,
    line: usize,
    lines: usize,
}

impl Scan {
    /// Length of the head once its empty line is there; `None` while it is not. Call again with the same
    /// buffer, grown.
    ///
    /// # Errors
    /// [`HeadError::BareLf`] at the first one, [`HeadError::TooLarge`] and [`HeadError::TooMany`] at the limits.
    pub fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        while let Some(found) = memchr::memchr(b'\n', buf.get(self.at..).unwrap_or_default()) {
            let end = self.at + found;
            if end == 0 || buf.get(end - 1) != Some(&b'\r') {
                return Err(HeadError::BareLf);
            }
            if end >= limits.bytes {
                return Err(HeadError::TooLarge);
            }
            let empty = end - self.line == 1;
            self.at = end + 1;
            self.line = self.at;
            if empty {
                return Ok(Some(self.at));
            }
            self.lines += 1;
            if self.lines > limits.fields + 1 {
                return Err(HeadError::TooMany);
            }
        }
        self.at = buf.len();
        if buf.len() >= limits.bytes { Err(HeadError::TooLarge) } else { Ok(None) }
    }

    /// Whether the first line is still incomplete.
    pub fn in_first_line(&self) -> bool {
        self.lines == 0
    }

    /// Fields seen.
    fn fields(&self) -> usize {
        self.lines.saturating_sub(1)
    }
}

/// Reads a request's head: all the bytes that [`Scan`] found, with the empty line.
///
/// # Errors
/// Anything that RFC 9112 doesn't allow, and what it allows to repair.
pub fn parse_request(head: &Bytes, scan: &Scan, limits: &HeadLimits) -> Result<RequestHead, HeadError> {
    let line = first_line(head)?;
    let method_end = memchr::memchr(b' ', line).ok_or(HeadError::FirstLine)?;
    let rest = line.get(method_end + 1..).unwrap_or_default();
    let target_len = memchr::memchr(b' ', rest).ok_or(HeadError::FirstLine)?;
    let method = Method::from_bytes(&line[..method_end]).map_err(|_| HeadError::Method)?;
    let target = &rest[..target_len];
    if target.len() > limits.target {
        return Err(HeadError::TargetTooLong);
    }
    // No controls, no blanks, and no fragment: a client doesn't send one (RFC 9112, 3.2).
    if target.is_empty() || target.iter().any(|&b| b <= b' ' || b == 0x7f || b == b'#') {
        return Err(HeadError::Target);
    }
    let version = match &rest[target_len + 1..] {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        other if other.len() == 8 && other.starts_with(b"HTTP/") => return Err(HeadError::Version),
        _ => return Err(HeadError::FirstLine),
    };
    let headers = fields(head, line.len() + 2, scan.fields())?;
    Ok(RequestHead { method, target: head.slice_ref(target), version, headers })
}

/// Reads a response's head: all the bytes that [`Scan`] found, with the empty line.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_response(head: &Bytes, scan: &Scan) -> Result<ResponseHead, HeadError> {
    let line = first_line(head)?;
    let version = match line.get(..9) {
        Some(b"HTTP/1.1 ") => Version::HTTP_11,
        Some(b"HTTP/1.0 ") => Version::HTTP_10,
        _ => return Err(HeadError::FirstLine),
    };
    let digits = line.get(9..12).ok_or(HeadError::FirstLine)?;
    if !matches!(line.get(12), None | Some(b' ')) {
        return Err(HeadError::FirstLine);
    }
    let status = StatusCode::from_bytes(digits).map_err(|_| HeadError::FirstLine)?;
    if status.as_u16() > 599 {
        return Err(HeadError::FirstLine);
    }
    let headers = fields(head, line.len() + 2, scan.fields())?;
    Ok(ResponseHead { status, version, headers })
}

/// The first line without its CRLF.
fn first_line(head: &[u8]) -> Result<&[u8], HeadError> {
    let end = memchr::memchr(b'\n', head).ok_or(HeadError::FirstLine)?;
    let line = head.get(..end).and_then(|l| l.strip_suffix(b"\r")).ok_or(HeadError::BareLf)?;
    if line.contains(&b'\r') { Err(HeadError::FirstLine) } else { Ok(line) }
}

/// The fields from `at` to the empty line. Values share the head's memory.
pub(super) fn fields(head: &Bytes, mut at: usize, count: usize) -> Result<HeaderMap, HeadError> {
    // What the gateway adds fits as well.
    let mut headers = HeaderMap::with_capacity(count + 8);
    loop {
        let rest = head.get(at..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).ok_or(HeadError::Name)?;
        let line = rest.get(..end).and_then(|l| l.strip_suffix(b"\r")).ok_or(HeadError::BareLf)?;
        at += end + 1;
        match line.first() {
            None => return Ok(headers),
            Some(b' ' | b'\t') => return Err(HeadError::Folded),
            Some(_) => {}
        }
        let colon = memchr::memchr(b':', line).ok_or(HeadError::Name)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| HeadError::Name)?;
        let value = trim(&line[colon + 1..]);
        let value = if value.is_empty() {
            HeaderValue::from_static("")
        } else {
            HeaderValue::from_maybe_shared(head.slice_ref(value)).map_err(|_| HeadError::Value)?
        };
        headers.append(name, value);
    }
}

/// Without blanks at both ends.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 256, fields: 3, target: 16 };

    fn request(text: &str) -> Result<(String, String, usize), HeadError> {
        let mut scan = Scan::default();
        // Byte by byte: the answer may not depend on how the bytes arrive.
        let mut end = None;
        for n in 1..=text.len() {
            if let Some(found) = scan.advance(&text.as_bytes()[..n], &LIMITS)? {
                end = Some(found);
                break;
            }
        }
        let Some(end) = end else { return Ok(("partial".into(), String::new(), 0)) };
        let bytes = Bytes::copy_from_slice(&text.as_bytes()[..end]);
        let head = parse_request(&bytes, &scan, &LIMITS)?;
        Ok((head.method.to_string(), String::from_utf8_lossy(&head.target).into_owned(), head.headers.len()))
    }

    #[test]
    fn requests() {
        let ok = |m: &str, t: &str, n: usize| Ok((m.to_owned(), t.to_owned(), n));
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ok("GET", "/", 1)),
            ("GET / HTTP/1.0\r\n\r\nrest", ok("GET", "/", 0)),
            ("GET / HTTP/1.1\r\nA:\r\nB: \t x \t \r\n\r\n", ok("GET", "/", 2)),
            ("GET / HTTP/1.1\r\nHost: a\r\n", ok("partial", "", 0)),
            ("GET / HTTP/1.1\nHost: a\n\n", Err(HeadError::BareLf)),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Err(HeadError::BareLf)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Err(HeadError::BareLf)),
            ("\n", Err(HeadError::BareLf)),
            ("GET  / HTTP/1.1\r\n\r\n", Err(HeadError::Target)),
            ("GET /  HTTP/1.1\r\n\r\n", Err(HeadError::FirstLine)),
            ("GET / HTTP/1.1 \r\n\r\n", Err(HeadError::FirstLine)),
            ("GET /\r\n\r\n", Err(HeadError::FirstLine)),
            ("GET / HTTP/2.0\r\n\r\n", Err(HeadError::Version)),
            ("GET / HTTP/1.2\r\n\r\n", Err(HeadError::Version)),
            ("GET / http/1.1\r\n\r\n", Err(HeadError::FirstLine)),
            ("G(T / HTTP/1.1\r\n\r\n", Err(HeadError::Method)),
            (" GET / HTTP/1.1\r\n\r\n", Err(HeadError::Method)),
            ("GET /#a HTTP/1.1\r\n\r\n", Err(HeadError::Target)),
            ("GET /\u{1} HTTP/1.1\r\n\r\n", Err(HeadError::Target)),
            ("GET /0123456789abcdef HTTP/1.1\r\n\r\n", Err(HeadError::TargetTooLong)),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Err(HeadError::Name)),
            ("GET / HTTP/1.1\r\n: a\r\n\r\n", Err(HeadError::Name)),
            ("GET / HTTP/1.1\r\nHost\r\n\r\n", Err(HeadError::Name)),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Err(HeadError::Folded)),
            ("GET / HTTP/1.1\r\nA: a\r\n\tb\r\n\r\n", Err(HeadError::Folded)),
            ("GET / HTTP/1.1\r\nA: a\0b\r\n\r\n", Err(HeadError::Value)),
            ("GET / HTTP/1.1\r\nA: a\rb\r\n\r\n", Err(HeadError::Value)),
            ("GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\nA: 3\r\n\r\n", ok("GET", "/", 3)),
            ("GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\nA: 3\r\nA: 4\r\n\r\n", Err(HeadError::TooMany)),
            (&format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(300)), Err(HeadError::TooLarge)),
        ] {
            assert_eq!(request(text), expected, "{text:?}");
        }
    }

    #[test]
    fn responses() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", Ok(200)),
            ("HTTP/1.0 404\r\n\r\n", Ok(404)),
            ("HTTP/1.1 204 \r\n\r\n", Ok(204)),
            ("HTTP/1.1 2000 OK\r\n\r\n", Err(HeadError::FirstLine)),
            ("HTTP/1.1 999 No\r\n\r\n", Err(HeadError::FirstLine)),
            ("HTTP/1.1  200 OK\r\n\r\n", Err(HeadError::FirstLine)),
            ("HTTP/2 200 OK\r\n\r\n", Err(HeadError::FirstLine)),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Err(HeadError::Folded)),
        ] {
            let mut scan = Scan::default();
            let end = scan.advance(text.as_bytes(), &LIMITS).expect("scans").expect("whole");
            let bytes = Bytes::copy_from_slice(&text.as_bytes()[..end]);
            assert_eq!(parse_response(&bytes, &scan).map(|h| h.status.as_u16()), expected, "{text:?}");
        }
    }
}
