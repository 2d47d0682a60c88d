//! `normalizePath` and `normalizePathWin`.

use super::Outcome;

/// Removes empty and self (`.`) components, and pairs of a component and a `..` after it. An absolute path does not go above its root;
/// a relative one keeps the `..` that lead out of it. The result ends in a slash when the input does, and not otherwise: `/a/..` leaves
/// nothing.
pub(super) fn normalize(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if !may_change(input) {
        return Outcome::Unchanged;
    }
    rewrite(input, out);
    if out.as_slice() == input {
        out.clear();
        return Outcome::Unchanged;
    }
    Outcome::Changed
}

/// The same after turning backslashes into slashes.
pub(super) fn normalize_win(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if memchr::memchr(b'\\', input).is_none() {
        return normalize(input, out);
    }
    let slashed: Vec<u8> = input.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    rewrite(&slashed, out);
    Outcome::Changed
}

/// Only two slashes in a row, and dots beside a slash or an end, can make a difference.
fn may_change(input: &[u8]) -> bool {
    if input.first() == Some(&b'.') && input.get(1).is_none_or(|&byte| byte == b'/' || byte == b'.') {
        return true;
    }
    memchr::memchr_iter(b'/', input).any(|at| matches!(input.get(at + 1), Some(b'/' | b'.')))
}

fn rewrite(input: &[u8], out: &mut Vec<u8>) {
    let absolute = input.first() == Some(&b'/');
    if absolute {
        out.push(b'/');
    }
    // How many of the components written can be taken back by a `..`.
    let mut depth = 0_usize;
    let root = out.len();
    for component in input.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if depth > 0 => {
                depth -= 1;
                out.pop();
                let start = memchr::memrchr(b'/', out).map_or(0, |slash| slash + 1);
                out.truncate(start.max(root));
            }
            b".." if absolute => {}
            _ => {
                depth += usize::from(component != b"..");
                out.extend_from_slice(component);
                out.push(b'/');
            }
        }
    }
    if input.last() != Some(&b'/') {
        out.pop();
    }
}
