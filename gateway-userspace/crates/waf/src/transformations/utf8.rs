//! `utf8toUnicode`: UTF-8 sequences become `%uHHHH`, for `urlDecodeUni` to fold.

use super::Outcome;

/// Sequences of two to four bytes are written as `%u` and at least four lower-case digits. So are overlong forms and surrogates, which
/// no decoder should take and some do: `C0 AF` is `%u002f`. ASCII, and bytes that are no sequence, stay.
pub(super) fn to_unicode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if input.is_ascii() {
        return Outcome::Unchanged;
    }
    let Some(first) = (0..input.len()).find(|&at| sequence(&input[at..]).is_some()) else {
        return Outcome::Unchanged;
    };
    out.reserve(input.len() * 2);
    out.extend_from_slice(&input[..first]);
    let mut rest = &input[first..];
    while let [byte, after @ ..] = rest {
        match sequence(rest) {
            Some((point, length)) => {
                push_escape(out, point);
                rest = &rest[length..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    Outcome::Changed
}

/// The number that a sequence of two to four bytes at the start writes, and its length.
fn sequence(rest: &[u8]) -> Option<(u32, usize)> {
    let tail =
        |at: usize| rest.get(at).filter(|byte| **byte & 0xC0 == 0x80).map(|byte| u32::from(byte & 0x3F));
    match *rest.first()? {
        lead @ 0xC0..=0xDF => Some((u32::from(lead & 0x1F) << 6 | tail(1)?, 2)),
        lead @ 0xE0..=0xEF => Some((u32::from(lead & 0x0F) << 12 | tail(1)? << 6 | tail(2)?, 3)),
        lead @ 0xF0..=0xF4 => {
            Some((u32::from(lead & 0x07) << 18 | tail(1)? << 12 | tail(2)? << 6 | tail(3)?, 4))
        }
        _ => None,
    }
}

fn push_escape(out: &mut Vec<u8>, point: u32) {
    out.extend_from_slice(b"%u");
    let digits = if point > 0xF_FFFF {
        6
    } else if point > 0xFFFF {
        5
    } else {
        4
    };
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(point >> (4 * place)) as usize & 15]);
    }
}
