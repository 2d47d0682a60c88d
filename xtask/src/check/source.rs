//! Just enough of Rust's lexical structure to see names: identifiers and punctuation with their lines, without
//! comments, strings and character literals.
//!
//! Reference: <https://doc.rust-lang.org/reference/tokens.html>.

/// An identifier or one character of punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its line, from 1.
    pub line: usize,
}

/// Splits a source file into tokens. Anything that is no Rust gives some tokens, never a panic.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&byte) = bytes.get(at) {
        let end = match byte {
            b'/' if bytes.get(at + 1) == Some(&b'/') => find(bytes, at, b"\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment(bytes, at),
            b'"' => string(bytes, at + 1),
            b'\'' => quote(bytes, at),
            b'r' | b'b' | b'c' if literal_prefix(bytes, at).is_some() => {
                literal_prefix(bytes, at).unwrap_or(at + 1)
            }
            _ if is_name(byte) => {
                let end = name_end(bytes, at);
                out.push(Token { text: &source[at..end], line });
                end
            }
            _ if byte.is_ascii() => {
                if !byte.is_ascii_whitespace() {
                    out.push(Token { text: &source[at..=at], line });
                }
                at + 1
            }
            _ => at + 1,
        };
        let end = end.clamp(at + 1, bytes.len());
        line += bytes[at..end].split(|byte| *byte == b'\n').count() - 1;
        at = end;
    }
    out
}

/// The end of a raw, byte or C string, or of a byte character, that starts at `at`; `None` for a plain name.
fn literal_prefix(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let letters = rest.iter().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    if letters > 2 {
        return None;
    }
    let hashes = rest[letters..].iter().take_while(|byte| **byte == b'#').count();
    let raw = rest[..letters].contains(&b'r');
    match rest.get(letters + hashes) {
        Some(b'"') if raw => {
            let mut close = vec![b'"'];
            close.resize(hashes + 1, b'#');
            let start = at + letters + hashes + 1;
            Some(find(bytes, start, &close) + close.len())
        }
        Some(b'"') if hashes == 0 => Some(string(bytes, at + letters + 1)),
        Some(b'\'') if hashes == 0 && rest[0] == b'b' && letters == 1 => Some(quote(bytes, at + 1)),
        _ => None,
    }
}

/// The end of a string whose content starts at `at`.
fn string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The end of a character literal, or of the quote alone where it begins a lifetime.
fn quote(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => find(bytes, at + 3, b"'") + 1,
        Some(_) => {
            // A character is at most four bytes long; a lifetime has no closing quote there.
            (at + 2..=at + 5)
                .find(|end| bytes.get(*end) == Some(&b'\''))
                .filter(|end| is_one_char(&bytes[at + 1..*end]))
                .map_or(at + 1, |end| end + 1)
        }
        None => at + 1,
    }
}

fn is_one_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1)
}

fn block_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Where `needle` is next, from `at`; the end where it is not.
fn find(bytes: &[u8], at: usize, needle: &[u8]) -> usize {
    (at..bytes.len()).find(|start| bytes[*start..].starts_with(needle)).unwrap_or(bytes.len())
}

fn name_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| !is_name(*byte)).map_or(bytes.len(), |length| at + length)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_seen() {
        for (source, expected) in [
            ("use a::b; // crate::c", "use a : : b ;"),
            ("/* x /* y */ z */ w", "w"),
            (r#"let s = "crate::x \" y"; t"#, "let s = ; t"),
            (r##"let s = r#"crate "x" "#; t"##, "let s = ; t"),
            ("let c = '\"'; let d = '\\''; e", "let c = ; let d = ; e"),
            ("b'\"' b\"x\" br#\"y\"# z", "z"),
            ("fn f<'a>(x: &'a str) {}", "fn f < a > ( x : & a str ) { }"),
            ("'é' x", "x"),
            ("r#type crate_r", "r # type crate_r"),
            ("\"unclosed", ""),
        ] {
            let seen: Vec<&str> = tokens(source).iter().map(|token| token.text).collect();
            assert_eq!(seen.join(" "), expected, "{source}");
        }
    }

    #[test]
    fn lines_count_through_comments_and_strings() {
        let last = tokens("/*\n\n*/ \"\n\" x").pop();
        assert_eq!(last, Some(Token { text: "x", line: 4 }));
    }
}
