//! The `Content-Disposition` header of a part.

use super::is_space;

/// The parameters of a header that could be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Disposition {
    pub(super) name: Vec<u8>,
    pub(super) filename: Option<Vec<u8>>,
    pub(super) filename_extended: Option<Vec<u8>>,
}

/// Reads a header's value. Sets `invalid_quoting` where an apostrophe or a stray quote might be read as quoting by others.
///
/// Only what is understood is accepted: `form-data` with `name`, `filename` and `filename*`, each at most once.
pub(super) fn parse(value: &[u8], invalid_quoting: &mut bool) -> Result<Disposition, &'static str> {
    let value: Vec<u8> = unfold(value);
    let mut rest = value.as_slice();
    rest = skip_blanks(rest).strip_prefix(b"form-data").ok_or("not form-data")?;
    let mut found = Disposition::default();
    let mut has_name = false;
    loop {
        rest = skip_blanks(rest);
        rest = match rest {
            [] => break,
            [b';', after @ ..] => skip_blanks(after),
            _ => {
                // The byte before tells whether someone tried to quote.
                let before = value.len() - rest.len();
                *invalid_quoting |= matches!(value.get(before.wrapping_sub(1)), Some(b'\'' | b'"'));
                return Err("something after a value");
            }
        };
        if rest.is_empty() {
            return Err("a semicolon at the end");
        }
        let length =
            rest.iter().position(|byte| matches!(byte, b'=' | b' ' | b'\t')).ok_or("no equals sign")?;
        let parameter = &rest[..length];
        rest = skip_blanks(&rest[length..]).strip_prefix(b"=").ok_or("no equals sign")?;
        rest = skip_blanks(rest);
        if rest.is_empty() {
            return Err("no value");
        }
        let (text, quote, after) = parameter_value(rest)?;
        rest = after;
        *invalid_quoting |= quote == Some(b'\'')
            || (quote != Some(b'"') && parameter != b"filename*" && text.contains(&b'\''));
        match parameter {
            b"name" if has_name => return Err("name twice"),
            b"name" => {
                has_name = true;
                found.name = text;
            }
            b"filename" if found.filename.is_some() => return Err("filename twice"),
            b"filename" => found.filename = Some(text),
            b"filename*" if found.filename_extended.is_some() => return Err("filename* twice"),
            b"filename*" => found.filename_extended = Some(extended(&text, quote)?),
            _ => return Err("an unknown parameter"),
        }
    }
    if found.name.is_empty() { Err("no name") } else { Ok(found) }
}

/// Continuation lines become part of the line, with one space.
fn unfold(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for (at, line) in value.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if at > 0 {
            out.push(b' ');
            let start = line.iter().position(|byte| !is_space(*byte)).unwrap_or(line.len());
            out.extend_from_slice(&line[start..]);
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    &text[start..]
}

/// A parameter's value without quotes and escapes, the quote that was used, and what follows.
type Value<'a> = (Vec<u8>, Option<u8>, &'a [u8]);

fn parameter_value(text: &[u8]) -> Result<Value<'_>, &'static str> {
    let quote = match text.first() {
        Some(quote @ (b'"' | b'\'')) => *quote,
        _ => {
            let length = text.iter().take_while(|byte| is_token_byte(**byte)).count();
            return Ok((text[..length].to_vec(), None, &text[length..]));
        }
    };
    let mut value = Vec::new();
    let mut at = 1;
    loop {
        match text.get(at) {
            None => return Err("a quote is not closed"),
            Some(byte) if *byte == quote => return Ok((value, Some(quote), &text[at + 1..])),
            Some(b'\\') => match text.get(at + 1) {
                None => return Err("a backslash at the end"),
                // Only the quote and the backslash can be escaped; some browsers send Windows paths without escaping.
                Some(byte) if *byte == quote || *byte == b'\\' => {
                    value.push(*byte);
                    at += 2;
                }
                Some(_) => {
                    value.push(b'\\');
                    at += 1;
                }
            },
            Some(byte) => {
                value.push(*byte);
                at += 1;
            }
        }
    }
}

/// The `token` of RFC 2045.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(
            byte,
            b'(' | b')'
                | b'<'
                | b'>'
                | b'@'
                | b','
                | b';'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'='
        )
}

/// An extended value, `charset'language'percent-encoded` (RFC 8187, section 3.2), decoded to bytes.
fn extended(text: &[u8], quote: Option<u8>) -> Result<Vec<u8>, &'static str> {
    if quote.is_some() {
        return Err("filename* in quotes");
    }
    let mut pieces = text.splitn(3, |byte| *byte == b'\'');
    let (Some(charset), Some(_language), Some(encoded)) = (pieces.next(), pieces.next(), pieces.next())
    else {
        return Err("filename* without charset and language");
    };
    if charset.is_empty() || encoded.contains(&b'\'') {
        return Err("filename* without charset or with an apostrophe");
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [byte, after @ ..] = rest {
        if *byte == b'%' {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let value = digits
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or("filename* with a malformed escape")?;
            decoded.push(value);
            rest = &after[2..];
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    Ok(decoded)
}
