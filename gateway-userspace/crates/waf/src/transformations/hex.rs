//! `hexEncode`, `hexDecode`, `sqlHexDecode`, and the hexadecimal digits that the others read.

use super::Outcome;

const LOWER_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The value of a hexadecimal digit.
pub(super) fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The byte that two hexadecimal digits at the start of a text write.
pub(super) fn byte_at(text: &[u8]) -> Option<u8> {
    let [high, low, ..] = text else {
        return None;
    };
    Some(value_of(*high)? << 4 | value_of(*low)?)
}

/// Appends a byte as two lower-case digits.
pub(super) fn push(out: &mut Vec<u8>, byte: u8) {
    out.push(LOWER_DIGITS[usize::from(byte >> 4)]);
    out.push(LOWER_DIGITS[usize::from(byte & 15)]);
}

/// `hexEncode`: two lower-case digits for each byte.
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if input.is_empty() {
        return Outcome::Unchanged;
    }
    out.reserve(input.len() * 2);
    for &byte in input {
        push(out, byte);
    }
    Outcome::Changed
}

/// `hexDecode`: a byte for each pair of digits, up to the first pair that is none; a last single digit is dropped.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if input.is_empty() {
        return Outcome::Unchanged;
    }
    out.extend(input.as_chunks::<2>().0.iter().map_while(|pair| byte_at(pair)));
    Outcome::Changed
}

/// `sqlHexDecode`: `0x` and pairs of digits become the bytes that they write; everything else stays.
pub(super) fn sql_decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let starts_here = |at: usize| {
        matches!(input.get(at..at + 2), Some([b'0', b'x' | b'X']))
            && input.get(at + 2..).and_then(byte_at).is_some()
    };
    let Some(first) = memchr::memchr_iter(b'0', input).find(|&at| starts_here(at)) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    let mut at = first;
    while let Some(&byte) = input.get(at) {
        if starts_here(at) {
            at += 2;
            while let Some(decoded) = input.get(at..).and_then(byte_at) {
                out.push(decoded);
                at += 2;
            }
        } else {
            out.push(byte);
            at += 1;
        }
    }
    Outcome::Changed
}
