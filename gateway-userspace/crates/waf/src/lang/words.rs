//! A directive's words: bare, or in double or single quotes.

/// A word and the offset of its first byte (after the quote).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    pub offset: usize,
}

/// Whose reading of backslashes a file is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// ModSecurity v3: a backslash before the quote stands for the quote, every other one stays, as patterns need it.
    Own,
    /// Apache's reader of its configuration, which hands the rules to ModSecurity v2: two backslashes are one as well.
    Apache,
}

impl Quoting {
    /// How every file of CRS 3 begins. Its patterns and its tests are made for Apache; CRS 4 writes `\x5c` instead.
    const CRS_3: &str = "OWASP ModSecurity Core Rule Set ver.3.";
    /// Lines at the top of a file in which that may stand.
    const HEAD_LINES: usize = 5;

    /// The reading that a file of this text is made for.
    pub fn of(text: &str) -> Self {
        let mut head = text.lines().take(Self::HEAD_LINES);
        let is_crs_3 = head.any(|line| {
            line.trim_start()
                .strip_prefix('#')
                .is_some_and(|comment| comment.trim_start().starts_with(Self::CRS_3))
        });
        if is_crs_3 { Self::Apache } else { Self::Own }
    }
}

/// Splits at white space. `Err` is the offset of a quote that nothing closes.
pub(super) fn split(line: &str, quoting: Quoting) -> Result<Vec<Word>, usize> {
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
            words.push(Word { text: unescaped(&line[at + 1..end], first, quoting), offset: at + 1 });
            at = end + 1;
        } else {
            let end = bytes[at..].iter().position(u8::is_ascii_whitespace).map_or(bytes.len(), |n| at + n);
            words.push(Word { text: line[at..end].to_owned(), offset: at });
            at = end;
        }
    }
}

/// What stands between quotes, without the backslashes that only protect what follows.
fn unescaped(text: &str, quote: u8, quoting: Quoting) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let protects = char == '\\'
            && chars
                .peek()
                .is_some_and(|&next| next == quote as char || (next == '\\' && quoting == Quoting::Apache));
        out.push(if protects { chars.next().unwrap_or(char) } else { char });
    }
    out
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
            let got =
                split(line, Quoting::Own).map(|words| words.into_iter().map(|w| w.text).collect::<Vec<_>>());
            let expected = expected.map(|e| e.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn files_of_crs_3_are_read_as_apache_reads_them() {
        let rows = [
            ("# -----\n# OWASP ModSecurity Core Rule Set ver.3.3.4\n", Quoting::Apache),
            ("# OWASP CRS ver.4.28.0\n", Quoting::Own),
            ("# \n\n\n\n\n# OWASP ModSecurity Core Rule Set ver.3.3.4\n", Quoting::Own),
            ("SecAction \"msg:'OWASP ModSecurity Core Rule Set ver.3.'\"", Quoting::Own),
        ];
        for (text, expected) in rows {
            assert_eq!(Quoting::of(text), expected, "{text}");
        }
        for (quoting, expected) in [(Quoting::Apache, r#"[^\]\"\d"#), (Quoting::Own, r#"[^\\]\\"\d"#)] {
            let words = split(r#""[^\\]\\\"\d""#, quoting).map(|words| words[0].text.clone());
            assert_eq!(words.as_deref(), Ok(expected), "{quoting:?}");
        }
    }
}
