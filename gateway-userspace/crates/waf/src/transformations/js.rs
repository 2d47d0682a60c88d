//! `jsDecode`: the escapes of ECMAScript strings.

use super::Outcome;
use super::escape_seq::unescape;
use super::hex;

/// `\uHHHH` (the low byte; full-width forms of ASCII become ASCII), `\xHH`, up to three octal digits, `\a \b \f \n \r \t \v`; of other
/// escapes the backslash vanishes. A backslash at the end stays.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    unescape(input, out, escaped)
}

/// The byte that an escape stands for and its length; `rest` begins after the backslash and is not empty.
fn escaped(rest: &[u8]) -> (u8, usize) {
    match rest {
        [b'u', digits @ ..] => match low_byte_of_four(digits) {
            Some(byte) => (byte, 5),
            None => (b'u', 1),
        },
        [b'x', digits @ ..] => hex::byte_at(digits).map_or((b'x', 1), |byte| (byte, 3)),
        [b'0'..=b'7', ..] => octal(rest),
        [b'a', ..] => (0x07, 1),
        [b'b', ..] => (0x08, 1),
        [b'f', ..] => (0x0C, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'v', ..] => (0x0B, 1),
        [other, ..] => (*other, 1),
        [] => (b'\\', 0),
    }
}

/// What four hexadecimal digits come to in a single byte: the low one, or ASCII for its full-width forms U+FF01 to U+FF5E.
fn low_byte_of_four(digits: &[u8]) -> Option<u8> {
    let high = hex::byte_at(digits)?;
    let low = hex::byte_at(digits.get(2..)?)?;
    Some(if high == 0xFF && (1..0x5F).contains(&low) { low + 0x20 } else { low })
}

/// Up to three octal digits, or two where three would be above 0xFF.
fn octal(rest: &[u8]) -> (u8, usize) {
    let mut digits = rest.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    if digits == 3 && rest[0] > b'3' {
        digits = 2;
    }
    let value = rest[..digits].iter().fold(0_u32, |value, digit| value << 3 | u32::from(digit - b'0'));
    (value as u8, digits)
}
