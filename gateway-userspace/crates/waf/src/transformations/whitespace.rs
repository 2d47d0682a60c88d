//! `compressWhitespace`, `removeWhitespace`, `trim`, `trimLeft`, `trimRight`.

use super::Outcome;

/// C's `isspace` in the default locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// `compressWhitespace`: each run of whitespace becomes one space.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let changes = |at: usize| {
        let byte = input[at];
        is_space(byte) && (byte != b' ' || input.get(at + 1).is_some_and(|&next| is_space(next)))
    };
    let Some(first) = (0..input.len()).find(|&at| changes(at)) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    let mut in_run = false;
    for &byte in &input[first..] {
        let space = is_space(byte);
        if !space {
            out.push(byte);
        } else if !in_run {
            out.push(b' ');
        }
        in_run = space;
    }
    Outcome::Changed
}

/// What `removeWhitespace` keeps: 1, else 0.
static KEPT: [u8; 256] = {
    let mut kept = [1; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        if matches!(byte as u8, b'\t'..=b'\r' | b' ' | 0xA0 | 0xC2) {
            kept[byte] = 0;
        }
        byte += 1;
    }
    kept
};

/// `removeWhitespace`: drops whitespace, and the no-break space in Latin-1 (0xA0) and in UTF-8 (0xC2 0xA0), byte by byte as
/// ModSecurity v3 does.
pub(super) fn remove(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let Some(first) = input.iter().position(|&byte| KEPT[usize::from(byte)] == 0) else {
        return Outcome::Unchanged;
    };
    // Every byte is written, and kept by moving on: no branch to guess wrongly at each word's end.
    out.resize(input.len(), 0);
    out[..first].copy_from_slice(&input[..first]);
    let mut kept = first;
    for &byte in &input[first..] {
        out[kept] = byte;
        kept += usize::from(KEPT[usize::from(byte)]);
    }
    out.truncate(kept);
    Outcome::Changed
}

pub(super) fn trim(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    keep(left_of(right_of(input)), input, out)
}

pub(super) fn trim_left(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    keep(left_of(input), input, out)
}

pub(super) fn trim_right(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    keep(right_of(input), input, out)
}

fn left_of(input: &[u8]) -> &[u8] {
    let start = input.iter().position(|&byte| !is_space(byte)).unwrap_or(input.len());
    &input[start..]
}

fn right_of(input: &[u8]) -> &[u8] {
    let end = input.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1);
    &input[..end]
}

fn keep(kept: &[u8], input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if kept.len() == input.len() {
        return Outcome::Unchanged;
    }
    out.extend_from_slice(kept);
    Outcome::Changed
}
