//! `utf8toUnicode`: UTF-8 sequences become `%uHHHH`, for `urlDecodeUni` to fold.

use super::Outcome;

/// Valid sequences of two to four bytes are written as `%u` and at least four lower-case digits (five for what is above U+FFFF);
/// ASCII and bytes that are not UTF-8 stay.
pub(super) fn to_unicode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let Some(first) = input.iter().position(|byte| !byte.is_ascii()) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    let mut changed = false;
    for chunk in input[first..].utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_ascii() {
                out.push(letter as u8);
            } else {
                changed = true;
                push_escape(out, u32::from(letter));
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
    if changed {
        return Outcome::Changed;
    }
    out.clear();
    Outcome::Unchanged
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
