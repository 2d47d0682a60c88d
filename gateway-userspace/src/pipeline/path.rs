//! A request's path, normalised once; rules, routes and upstreams see the result and nothing else.
//!
//! Escapes of unreserved characters are decoded and all others written in capitals, characters that a
//! path can't hold are escaped, dot segments are resolved, and (by choice) double slashes are one. What a
//! server might still take for a step upwards is refused: a path above the root, `..` beside an escaped
//! slash or a backslash, `..;`, and NUL.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// `%` without two hexadecimal digits.
    #[error("the path holds a broken escape")]
    Escape,
    /// `%00`.
    #[error("the path holds a NUL")]
    Nul,
    /// More steps up than down, or one in disguise.
    #[error("the path leads above the root")]
    Traversal,
}

impl PathError {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Escape => "path_escape",
            Self::Nul => "path_nul",
            Self::Traversal => "path_traversal",
        }
    }
}

/// The path in its one form. `path` begins with `/` and holds no blanks, controls or `#`.
pub(super) fn normalise(path: &[u8], merge_slashes: bool) -> Result<Cow<'_, [u8]>, PathError> {
    if is_plain(path, merge_slashes) {
        return Ok(Cow::Borrowed(path));
    }
    let escaped = unescape(path)?;
    let resolved = resolve(&escaped, merge_slashes)?;
    if hides_traversal(&resolved) {
        return Err(PathError::Traversal);
    }
    Ok(Cow::Owned(resolved))
}

/// Whether nothing is to be done: the common case, one look at each byte.
fn is_plain(path: &[u8], merge_slashes: bool) -> bool {
    let mut after_slash = false;
    for &b in path {
        match b {
            b'/' if after_slash && merge_slashes => return false,
            b'.' if after_slash => return false,
            b if !may_stand(b) => return false,
            _ => {}
        }
        after_slash = b == b'/';
    }
    true
}

/// RFC 3986: pchar and `/`, without `%`.
fn may_stand(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'/' | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// One form for each character.
fn unescape(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(path.len() + 8);
    let mut bytes = path.iter().copied();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16)).ok_or(PathError::Escape);
            let value = (digit()? << 4 | digit()?) as u8;
            match value {
                0 => return Err(PathError::Nul),
                v if is_unreserved(v) => out.push(v),
                v => escape(&mut out, v),
            }
        } else if may_stand(b) {
            out.push(b);
        } else {
            escape(&mut out, b);
        }
    }
    Ok(out)
}

fn escape(out: &mut Vec<u8>, b: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
}

/// Without dot segments (RFC 3986, section 5.2.4), except that a step above the root is refused.
fn resolve(path: &[u8], merge_slashes: bool) -> Result<Vec<u8>, PathError> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." if is_last => out.push(b'/'),
            b"." => {}
            b".." => {
                let up = out.iter().rposition(|b| *b == b'/').ok_or(PathError::Traversal)?;
                out.truncate(up);
                if is_last {
                    out.push(b'/');
                }
            }
            b"" if merge_slashes && !is_last => {}
            segment => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(out)
}

/// Whether `..` stands where a server could take it for a segment: between separators of which one is escaped
/// or a backslash, or before a path parameter.
fn hides_traversal(path: &[u8]) -> bool {
    memchr::memmem::find_iter(path, b"..").any(|at| {
        let (before, after) = (&path[..at], &path[at + 2..]);
        let opens = [&b"/"[..], b"%2F", b"%5C"].iter().any(|separator| before.ends_with(separator));
        let closes = [&b"/"[..], b"%2F", b"%5C", b";", b"%3B"].iter().any(|end| after.starts_with(end));
        opens && (closes || after.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form() {
        for (path, expected) in [
            ("/", Ok("/")),
            ("/a/b.c", Ok("/a/b.c")),
            ("/.well-known/x", Ok("/.well-known/x")),
            ("/a/./b", Ok("/a/b")),
            ("/a/../b", Ok("/b")),
            ("/a/b/..", Ok("/a/")),
            ("/a/.", Ok("/a/")),
            ("/a//b///c/", Ok("/a/b/c/")),
            ("//", Ok("/")),
            ("/%7Euser/%41", Ok("/~user/A")),
            ("/%2e%2e/%2E", Err(PathError::Traversal)),
            ("/a/%2e%2e/b", Ok("/b")),
            ("/..", Err(PathError::Traversal)),
            ("/a/../../b", Err(PathError::Traversal)),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a%2f..%2fb", Err(PathError::Traversal)),
            ("/a/..%2fb", Err(PathError::Traversal)),
            ("/..%5c..%5cwindows", Err(PathError::Traversal)),
            ("/a\\..\\b", Err(PathError::Traversal)),
            ("/a\\b", Ok("/a%5Cb")),
            ("/a/..;/b", Err(PathError::Traversal)),
            ("/a/..;x=1", Err(PathError::Traversal)),
            ("/a..b/c..", Ok("/a..b/c..")),
            ("/a/...", Ok("/a/...")),
            ("/%00", Err(PathError::Nul)),
            ("/%", Err(PathError::Escape)),
            ("/%4", Err(PathError::Escape)),
            ("/%zz", Err(PathError::Escape)),
            ("/%252e%252e/", Ok("/%252e%252e/")),
            ("/\u{e9}", Ok("/%C3%A9")),
            ("/a|b\"c", Ok("/a%7Cb%22c")),
            ("/a%20b", Ok("/a%20b")),
        ] {
            let got = normalise(path.as_bytes(), true).map(|p| String::from_utf8_lossy(&p).into_owned());
            assert_eq!(got.as_deref(), expected.as_ref().copied(), "{path}");
            if let Ok(once) = got {
                let twice =
                    normalise(once.as_bytes(), true).map(|p| String::from_utf8_lossy(&p).into_owned());
                assert_eq!(twice.as_deref(), Ok(once.as_str()), "{path} twice");
            }
        }
    }

    #[test]
    fn slashes_may_stay() {
        let got = normalise(b"/a//b/./c", false).map(|p| String::from_utf8_lossy(&p).into_owned());
        assert_eq!(got.as_deref(), Ok("/a//b/c"));
    }
}
