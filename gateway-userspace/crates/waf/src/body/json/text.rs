//! The strings and numbers of JSON.

use super::JsonError;

/// Where a string ends (its closing quote) when it has no escape and no control character; `start` is after the opening quote.
pub(super) fn plain_end(input: &[u8], start: usize) -> Option<usize> {
    let rest = input.get(start..)?;
    let stop = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
    (rest[stop] == b'"').then_some(start + stop)
}

/// Appends a string without its escapes to `out`; gives the place after the closing quote.
pub(super) fn unescape(input: &[u8], start: usize, out: &mut Vec<u8>) -> Result<usize, JsonError> {
    let mut at = start;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(stop) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20) else {
            return Err(JsonError::Malformed { offset: input.len(), what: "the closing quote of a string" });
        };
        out.extend_from_slice(&rest[..stop]);
        at += stop;
        match rest[stop] {
            b'"' => return Ok(at + 1),
            b'\\' => at = escape(input, at + 1, out)?,
            _ => {
                return Err(JsonError::Malformed {
                    offset: at,
                    what: "no bare control character in a string",
                });
            }
        }
    }
}

/// Appends what an escape stands for; `at` is after the backslash. Gives the place after the escape.
fn escape(input: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, JsonError> {
    let byte = match input.get(at) {
        Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
        Some(b'b') => 0x08,
        Some(b'f') => 0x0C,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'u') => return unicode(input, at + 1, out),
        _ => return Err(JsonError::Malformed { offset: at, what: "an escape" }),
    };
    out.push(byte);
    Ok(at + 1)
}

/// `\uHHHH`, and the pair of surrogates for what is above U+FFFF; half a pair becomes U+FFFD.
fn unicode(input: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, JsonError> {
    let first = four_digits(input, at)?;
    let mut end = at + 4;
    let mut point = first;
    if (0xD800..0xDC00).contains(&first) && input.get(end..end + 2) == Some(br"\u") {
        let second = four_digits(input, end + 2)?;
        if (0xDC00..0xE000).contains(&second) {
            point = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            end += 6;
        }
    }
    let letter = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(end)
}

fn four_digits(input: &[u8], at: usize) -> Result<u32, JsonError> {
    input
        .get(at..at + 4)
        .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        .and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .ok_or(JsonError::Malformed { offset: at, what: "four hexadecimal digits" })
}

/// How long the number at the start is; none when it is malformed.
pub(super) fn number_length(rest: &[u8]) -> Option<usize> {
    let digits_from = |at: usize| rest[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(rest.first() == Some(&b'-'));
    let whole = digits_from(at);
    if whole == 0 || (whole > 1 && rest[at] == b'0') {
        return None;
    }
    at += whole;
    if rest.get(at) == Some(&b'.') {
        let fraction = digits_from(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(rest.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(at + 1), Some(b'+' | b'-')));
        let exponent = rest.get(at + 1 + sign..).map_or(0, |_| digits_from(at + 1 + sign));
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}
