//! `htmlEntityDecode`: numeric references and the five names that ModSecurity v3 knows.

use super::Outcome;
use super::hex;

/// Numeric references become the low byte of their number. The semicolon is optional everywhere.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let Some(first) = memchr::memchr_iter(b'&', input).find(|&at| reference(&input[at + 1..]).is_some())
    else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    let mut rest = &input[first..];
    while let Some(at) = memchr::memchr(b'&', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match reference(rest) {
            Some((byte, length)) => {
                out.push(byte);
                rest = &rest[length..];
                rest = rest.strip_prefix(b";").unwrap_or(rest);
            }
            None => out.push(b'&'),
        }
    }
    out.extend_from_slice(rest);
    Outcome::Changed
}

/// What a reference stands for, and its length between the ampersand and the semicolon.
fn reference(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'#', b'x' | b'X', digits @ ..] => {
            let length = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            (length > 0).then(|| (number(&digits[..length], 16), length + 2))
        }
        [b'#', digits @ ..] => {
            let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (length > 0).then(|| (number(&digits[..length], 10), length + 1))
        }
        _ => {
            let length = rest.iter().take(5).take_while(|byte| byte.is_ascii_alphanumeric()).count();
            NAMES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(&rest[..length]) && !is_longer_word(rest, length))
                .map(|(_, byte)| (*byte, length))
        }
    }
}

/// Whether the word goes on after `length` bytes, so that it is another name.
fn is_longer_word(rest: &[u8], length: usize) -> bool {
    rest.get(length).is_some_and(u8::is_ascii_alphanumeric)
}

const NAMES: &[(&[u8], u8)] =
    &[(b"quot", b'"'), (b"amp", b'&'), (b"lt", b'<'), (b"gt", b'>'), (b"nbsp", 0xA0)];

/// The low byte of a number; as `strtol` does, one that does not fit is the largest.
fn number(digits: &[u8], radix: i64) -> u8 {
    let mut value = 0_i64;
    for digit in digits {
        let digit = i64::from(hex::value_of(*digit).unwrap_or(0));
        match value.checked_mul(radix).and_then(|value| value.checked_add(digit)) {
            Some(next) => value = next,
            None => return i64::MAX as u8,
        }
    }
    value as u8
}
