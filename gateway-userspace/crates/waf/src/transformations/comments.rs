//! `removeComments`, `removeCommentsChar`, `replaceComments`.

use memchr::memmem;

use super::Outcome;

/// `removeComments`: drops `/* .. */` and `<!-- .. -->`; either end ends either, as in ModSecurity. `--` and `#` drop the rest. A comment
/// that does not end becomes a space.
pub(super) fn remove(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let mut rest = input;
    while let Some(at) = next_of(rest, |rest| {
        rest.starts_with(b"/*") || rest.starts_with(b"<!--") || rest.starts_with(b"--") || rest[0] == b'#'
    }) {
        out.extend_from_slice(&rest[..at]);
        let opening = match rest[at] {
            b'/' => 2,
            b'<' => 4,
            _ => return Outcome::Changed,
        };
        rest = &rest[at + opening..];
        match next_of(rest, |rest| rest.starts_with(b"*/") || rest.starts_with(b"-->")) {
            Some(end) => rest = &rest[end + if rest[end] == b'*' { 2 } else { 3 }..],
            None => {
                out.push(b' ');
                return Outcome::Changed;
            }
        }
    }
    finish(input, rest, out)
}

/// `removeCommentsChar`: drops the characters that begin and end comments, and leaves what is between.
pub(super) fn remove_chars(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let mut rest = input;
    while let Some(at) = next_of(rest, |rest| marker_length(rest) > 0) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + marker_length(&rest[at..])..];
    }
    finish(input, rest, out)
}

fn marker_length(rest: &[u8]) -> usize {
    match rest {
        [b'<', b'!', b'-', b'-', ..] => 4,
        [b'-', b'-', b'>', ..] => 3,
        [b'/', b'*', ..] | [b'*', b'/', ..] | [b'-', b'-', ..] => 2,
        [b'#', ..] => 1,
        _ => 0,
    }
}

/// `replaceComments`: each `/* .. */` becomes one space, also one that does not end. A lone `*/` stays.
pub(super) fn replace(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let mut rest = input;
    let opening = memmem::Finder::new(b"/*");
    while let Some(at) = opening.find(rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + 2..];
        match memmem::find(rest, b"*/") {
            Some(end) => rest = &rest[end + 2..],
            None => return Outcome::Changed,
        }
    }
    finish(input, rest, out)
}

/// The first place where a comment's mark may stand and does.
fn next_of(rest: &[u8], begins: impl Fn(&[u8]) -> bool) -> Option<usize> {
    rest.iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'/' | b'*' | b'<' | b'-' | b'#'))
        .map(|(at, _)| at)
        .find(|&at| begins(&rest[at..]))
}

/// Appends what is left; nothing was found when all of the input is.
fn finish(input: &[u8], rest: &[u8], out: &mut Vec<u8>) -> Outcome {
    if rest.len() == input.len() {
        return Outcome::Unchanged;
    }
    out.extend_from_slice(rest);
    Outcome::Changed
}
