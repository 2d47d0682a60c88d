//! `urlDecode`, `urlDecodeUni`, `urlEncode`.

use super::Outcome;
use super::best_fit::nearest_ascii;
use super::hex;

/// `urlDecode`: `%HH` and `+`; invalid escapes stay.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    decode_with(input, out, |_| None)
}

/// `urlDecodeUni`: also `%uHHHH`, which becomes the nearest ASCII byte where there is one, and the low byte of the number otherwise.
pub(super) fn decode_uni(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    decode_with(input, out, |rest| match rest {
        [b'u' | b'U', digits @ ..] => {
            let (high, low) = (hex::byte_at(digits)?, hex::byte_at(digits.get(2..)?)?);
            Some(nearest_ascii(u16::from_be_bytes([high, low])).unwrap_or(low))
        }
        _ => None,
    })
}

/// Decodes with `wide` asked first about what follows a percent sign; it stands for six characters.
fn decode_with(input: &[u8], out: &mut Vec<u8>, wide: impl Fn(&[u8]) -> Option<u8>) -> Outcome {
    let escape = |rest: &[u8]| match wide(rest) {
        Some(byte) => Some((byte, 5)),
        None => hex::byte_at(rest).map(|byte| (byte, 2)),
    };
    let changes = |at: usize| input[at] == b'+' || escape(&input[at + 1..]).is_some();
    let Some(first) = memchr::memchr2_iter(b'%', b'+', input).find(|&at| changes(at)) else {
        return Outcome::Unchanged;
    };
    out.reserve(input.len());
    out.extend_from_slice(&input[..first]);
    let mut rest = &input[first..];
    while let Some(at) = memchr::memchr2(b'%', b'+', rest) {
        out.extend_from_slice(&rest[..at]);
        let is_plus = rest[at] == b'+';
        rest = &rest[at + 1..];
        if is_plus {
            out.push(b' ');
        } else if let Some((byte, length)) = escape(rest) {
            out.push(byte);
            rest = &rest[length..];
        } else {
            out.push(b'%');
        }
    }
    out.extend_from_slice(rest);
    Outcome::Changed
}

/// `urlEncode`: letters, digits and `*` stay, a space becomes `+`, the rest `%hh`.
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'*';
    let Some(first) = input.iter().position(|&byte| !stays(byte)) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    for &byte in &input[first..] {
        match byte {
            b' ' => out.push(b'+'),
            _ if stays(byte) => out.push(byte),
            _ => {
                out.push(b'%');
                hex::push(out, byte);
            }
        }
    }
    Outcome::Changed
}
