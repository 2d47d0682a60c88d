//! The HTTP server in front of the engine, for in-process runs: raw bytes to a request, or the refusal that a server
//! gives before any rule runs.
//!
//! It refuses what RFC 9112 says must be refused and is lenient otherwise, so that rules get to see what a lenient
//! server would hand them: methods of any letters, odd bytes in the target, unknown versions of HTTP.

/// A request as handed to the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Vec<u8>,
    /// The request target as it stands on the line.
    pub uri: Vec<u8>,
    /// `HTTP/1.1`.
    pub protocol: Vec<u8>,
    /// Fields in order, surrounding whitespace removed.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Request {
    /// The first field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v.as_slice())
    }
}

/// The answer of a server that gives up on a request before inspecting it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status: 400 or 501.
    pub status: u16,
    /// Why.
    pub reason: &'static str,
}

const fn bad(reason: &'static str) -> Refusal {
    Refusal { status: 400, reason }
}

/// Reads one request.
///
/// # Errors
/// The refusal, for what no server would pass on.
pub fn parse(raw: &[u8]) -> Result<Request, Refusal> {
    let mut rest = raw;
    let line = next_line(&mut rest).ok_or(bad("no end of the request line"))?;
    let mut request = request_line(line)?;
    loop {
        let line = next_line(&mut rest).ok_or(bad("no end of the headers"))?;
        if line.is_empty() {
            break;
        }
        header(line, &mut request.headers)?;
    }
    check_host(&request)?;
    body(&mut request, rest)?;
    Ok(request)
}

/// Lines end with LF; a CR before it belongs to the end.
fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&b| b == b'\n')?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn request_line(line: &[u8]) -> Result<Request, Refusal> {
    let first = line.iter().position(|&b| b == b' ').ok_or(bad("the request line has no target"))?;
    let last = line.iter().rposition(|&b| b == b' ').filter(|&last| last > first);
    let (method, uri, protocol) = match last {
        Some(last) => (&line[..first], &line[first + 1..last], &line[last + 1..]),
        None => return Err(bad("the request line has no version")),
    };
    if method.is_empty() || !method.iter().all(|&b| is_token(b)) {
        return Err(bad("the method is not a token"));
    }
    let [b'H', b'T', b'T', b'P', b'/', major @ b'1'..=b'9', b'.', minor @ b'0'..=b'9'] = protocol else {
        return Err(bad("the version is not HTTP/1.0 or later"));
    };
    let _ = (major, minor);
    check_target(method, uri)?;
    Ok(Request {
        method: method.to_vec(),
        uri: uri.to_vec(),
        protocol: protocol.to_vec(),
        ..Request::default()
    })
}

/// RFC 9112, section 3.2: origin-form, absolute-form, authority-form for CONNECT, asterisk-form for OPTIONS; never a
/// fragment.
fn check_target(method: &[u8], uri: &[u8]) -> Result<(), Refusal> {
    if uri.contains(&b'#') {
        return Err(bad("the target has a fragment"));
    }
    if uri.iter().any(|&b| b < 0x20 || b == 0x7f) {
        return Err(bad("the target has control characters"));
    }
    if method == b"CONNECT" {
        let port = uri.iter().rposition(|&b| b == b':').map(|at| &uri[at + 1..]);
        return match port {
            Some(port) if !port.is_empty() && port.iter().all(u8::is_ascii_digit) => Ok(()),
            _ => Err(bad("CONNECT needs host:port")),
        };
    }
    let scheme_end = uri.windows(3).position(|w| w == b"://");
    let absolute = scheme_end.is_some_and(|end| {
        end > 0 && uri[..end].iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    });
    // A query without a path is no origin-form, but Apache reads the path as `/`, and suites of CRS 3 send it.
    if matches!(uri.first(), Some(b'/' | b'?')) || absolute || (uri == b"*" && method == b"OPTIONS") {
        Ok(())
    } else {
        Err(bad("the target is neither a path nor a URI"))
    }
}

fn header(line: &[u8], headers: &mut Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), Refusal> {
    if line[0] == b' ' || line[0] == b'\t' {
        let (_, value) = headers.last_mut().ok_or(bad("a folded line continues no header"))?;
        value.push(b' ');
        value.extend_from_slice(line.trim_ascii());
        return Ok(());
    }
    let colon = line.iter().position(|&b| b == b':').ok_or(bad("a header without colon"))?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
        return Err(bad("a header name is not a token"));
    }
    if value.iter().any(|&b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(bad("a header value has CR, LF or NUL"));
    }
    headers.push((name.to_vec(), value.to_vec()));
    Ok(())
}

/// RFC 9112, section 3.2: 400 to HTTP/1.1 requests with no Host, several, or an invalid one.
fn check_host(request: &Request) -> Result<(), Refusal> {
    let hosts: Vec<&[u8]> = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"host"))
        .map(|(_, value)| value.as_slice())
        .collect();
    if hosts.len() > 1 {
        return Err(bad("more than one Host"));
    }
    let modern = request.protocol != b"HTTP/1.0";
    match hosts.first() {
        None if modern => Err(bad("no Host")),
        Some(host) if host.is_empty() && modern => Err(bad("an empty Host")),
        Some(host) if !host.iter().all(|&b| is_host_byte(b)) => Err(bad("Host is not a host name")),
        _ => Ok(()),
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~' | b',' | b';')
}

fn body(request: &mut Request, rest: &[u8]) -> Result<(), Refusal> {
    if let Some(coding) = request.header("Transfer-Encoding") {
        if !coding.to_ascii_lowercase().ends_with(b"chunked") {
            return Err(bad("the last transfer coding is not chunked"));
        }
        request.body = dechunk(rest)?;
        // RFC 9112, section 6.3: Transfer-Encoding overrides; the length must not be passed on.
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(b"content-length"));
        return Ok(());
    }
    let mut length = None;
    for (_, value) in request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length"))
    {
        let parsed = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
        let parsed: u64 = parsed.and_then(|v| v.parse().ok()).ok_or(bad("Content-Length is not a number"))?;
        if length.replace(parsed).is_some_and(|earlier| earlier != parsed) {
            return Err(bad("Content-Length contradicts itself"));
        }
    }
    // A shorter body than announced is what came: the client closes after sending.
    let length = usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX).min(rest.len());
    request.body = rest[..length].to_vec();
    Ok(())
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    loop {
        let line = next_line(&mut rest).ok_or(bad("a chunk without size"))?;
        let size = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(size).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.ok_or(bad("a chunk size is not a number"))?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(..size).ok_or(bad("a chunk is shorter than its size"))?);
        rest = &rest[size..];
        if next_line(&mut rest).is_none_or(|end| !end.is_empty()) {
            return Err(bad("a chunk does not end with CRLF"));
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expected: Result<(&str, &str), u16>) {
        let got = parse(raw.as_bytes());
        match expected {
            Ok((uri, body)) => {
                let request = got.unwrap_or_else(|refusal| panic!("{raw:?}: {refusal:?}"));
                assert_eq!(
                    (request.uri.as_slice(), request.body.as_slice()),
                    (uri.as_bytes(), body.as_bytes()),
                    "{raw:?}"
                );
            }
            Err(status) => assert_eq!(got.expect_err(raw).status, status, "{raw:?}"),
        }
    }

    #[test]
    fn requests_and_refusals() {
        let rows = [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", Ok(("/", ""))),
            ("GET ?a HTTP/1.1\r\nHost: h\r\n\r\n", Ok(("?a", ""))),
            ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", Ok(("/a b", ""))),
            ("GET / HTTP/4.0\r\nHost: h\r\n\r\n", Ok(("/", ""))),
            ("GET / HTTP/1.0\nHost:\n\n", Ok(("/", ""))),
            ("FOO http://h/x HTTP/1.1\r\nHost: h\r\n\r\n", Ok(("http://h/x", ""))),
            ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Ok(("*", ""))),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcd", Ok(("/", "abc"))),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabcd", Ok(("/", "abcd"))),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                Ok(("/", "abc")),
            ),
            ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Err(400)),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3;\r\n\r\nabc", Err(400)),
            ("GET / HTTP/1.1\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: a%1F\r\n\r\n", Err(400)),
            ("GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET \\ HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("CONNECT host HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("     GET / HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", Err(400)),
            ("GET / JUNK/1.0\r\nHost: h\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\n", Err(400)),
        ];
        for (raw, expected) in rows {
            check(raw, expected);
        }
    }

    #[test]
    fn chunked_bodies_lose_their_length() {
        let raw =
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let request = parse(raw).expect("accepted");
        assert_eq!(request.header("content-length"), None);
    }
}
