//! Bytes of a client in a line of ours: nothing of it may end the line or the field.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` as the inside of a JSON string. What is not UTF-8 becomes U+FFFD.
pub(super) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |b: &u8| matches!(b, b' '..=b'~') && *b != b'"' && *b != b'\\';
    if bytes.iter().all(plain) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let code = c as u32;
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(HEX[(code >> shift) as usize & 15]);
                    }
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends `bytes` as nginx does in a quoted field: `"`, `\` and all but printable ASCII as `\xHH`.
pub(super) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    for &b in bytes {
        if matches!(b, b' '..=b'~') && b != b'"' && b != b'\\' {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (input, in_json, in_quotes) in [
            (&b"plain /a?b=c"[..], "plain /a?b=c", "plain /a?b=c"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a\\x22b\\x5cc"),
            (b"line\r\nbreak", "line\\u000d\\u000abreak", "line\\x0d\\x0abreak"),
            (b"\xc3\xa9\xff", "\u{e9}\u{fffd}", "\\xc3\\xa9\\xff"),
            (b"\xe2\x80\xa8", "\\u2028", "\\xe2\\x80\\xa8"),
        ] {
            let mut out = Vec::new();
            json(&mut out, input);
            assert_eq!(String::from_utf8_lossy(&out), in_json);
            out.clear();
            quoted(&mut out, input);
            assert_eq!(String::from_utf8_lossy(&out), in_quotes);
        }
    }
}
