//! A directive's words: bare, or in double or single quotes.

/// A word and the offset of its first byte (after the quote).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    pub offset: usize,
}

/// Splits at white space. Inside of quotes a backslash before the quote stands for the quote; every other backslash
/// stays, as patterns need it. `Err` is the offset of a quote that nothing closes.
pub(super) fn split(line: &str) -> Result<Vec<Word>, usize> {
    let bytes = line.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let Some(&first) = bytes.get(at) else { return Ok(words) };
        if first == b'"' || first == b'\'' {
            let end = quoted_end(bytes, at + 1, first).ok_or(at)?;
            let text = line[at + 1..end]
                .replace(['\\', first as char].iter().collect::<String>().as_str(), quote(first));
            words.push(Word { text, offset: at + 1 });
            at = end + 1;
        } else {
            let end = bytes[at..].iter().position(u8::is_ascii_whitespace).map_or(bytes.len(), |n| at + n);
            words.push(Word { text: line[at..end].to_owned(), offset: at });
            at = end;
        }
    }
}

fn quote(byte: u8) -> &'static str {
    if byte == b'"' { "\"" } else { "'" }
}

/// Where the quote closes: the first one that an even number of backslashes stands before.
fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let rows: &[(&str, Result<&[&str], usize>)] = &[
            ("", Ok(&[])),
            (
                "SecRule A|B:c \"@rx a b\" \"id:1,msg:'x y'\"",
                Ok(&["SecRule", "A|B:c", "@rx a b", "id:1,msg:'x y'"]),
            ),
            (r#"X "a\"b\\" y"#, Ok(&["X", r#"a"b\\"#, "y"])),
            (r#"X "\d\x5c""#, Ok(&["X", r"\d\x5c"])),
            ("X 'a b' c", Ok(&["X", "a b", "c"])),
            ("X \"a", Err(2)),
            ("X \"\"", Ok(&["X", ""])),
        ];
        for (line, expected) in rows {
            let got = split(line).map(|words| words.into_iter().map(|w| w.text).collect::<Vec<_>>());
            let expected = expected.map(|e| e.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, expected, "{line}");
        }
    }
}
