//! The `Cookie` header (RFC 6265, section 4.2), as ModSecurity v3 reads it.

/// Splits a header at `separator` (`;`, or `,` for SecCookieFormat 1), then at the first `=`, and hands each pair to `sink`, in
/// order, not decoded. Whitespace before a name and at the end of the header is dropped; pieces without a name are left out; one
/// without `=` is a name with an empty value.
pub fn parse(header: &[u8], separator: u8, sink: &mut dyn FnMut(&[u8], &[u8])) {
    for piece in header.trim_ascii_end().split(|&byte| byte == separator) {
        let piece = piece.trim_ascii_start();
        let (name, value) = match memchr::memchr(b'=', piece) {
            Some(at) => (&piece[..at], &piece[at + 1..]),
            None => (piece, &[][..]),
        };
        if !name.is_empty() {
            sink(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: &[(&str, &str)]) {
        let mut got = Vec::new();
        parse(header.as_bytes(), b';', &mut |name, value| {
            got.push((
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            ));
        });
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(got, expected, "{header}");
    }

    #[test]
    fn cookies() {
        check("a=1; b=2", &[("a", "1"), ("b", "2")]);
        check(";;a=1;  ", &[("a", "1")]);
        check("a=b=c; d", &[("a", "b=c"), ("d", "")]);
        check("=x; a = 1", &[("a ", " 1")]);
        check("a=\"x; y\"", &[("a", "\"x"), ("y\"", "")]);
        check("", &[]);
    }
}
