//! `cssDecode`: the escapes of CSS 2.x (section 4.1.3), as browsers read them.

use super::Outcome;
use super::hex;
use super::whitespace::is_space;

/// A backslash and one to six hexadecimal digits are one byte (the last two digits; full-width forms of ASCII, U+FF01 to U+FF5E,
/// become ASCII), and one whitespace after them belongs to the escape. A backslash before a line end vanishes with it; before anything
/// else it alone vanishes; so does one at the end.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let Some(first) = memchr::memchr(b'\\', input) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    let mut rest = &input[first..];
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.iter().take(6).take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 0 {
            out.push(escaped(&rest[..digits]));
            rest = &rest[digits..];
            if rest.first().is_some_and(|&byte| is_space(byte)) {
                rest = &rest[1..];
            }
        } else if let [next, after @ ..] = rest {
            if *next != b'\n' {
                out.push(*next);
            }
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    Outcome::Changed
}

fn escaped(digits: &[u8]) -> u8 {
    let low = digits[digits.len().saturating_sub(2)..]
        .iter()
        .fold(0_u8, |value, digit| value << 4 | hex::value_of(*digit).unwrap_or(0));
    let full_width = match digits {
        [f, g, _, _] | [b'0', f, g, _, _] | [b'0', b'0', f, g, _, _] => {
            f.eq_ignore_ascii_case(&b'f') && g.eq_ignore_ascii_case(&b'f')
        }
        _ => false,
    };
    if full_width && (1..0x5F).contains(&low) { low + 0x20 } else { low }
}
