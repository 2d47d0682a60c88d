//! `removeNulls` and `replaceNulls`.

use super::Outcome;

pub(super) fn remove(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if memchr::memchr(0, input).is_none() {
        return Outcome::Unchanged;
    }
    for run in input.split(|&byte| byte == 0) {
        out.extend_from_slice(run);
    }
    Outcome::Changed
}

pub(super) fn replace(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if memchr::memchr(0, input).is_none() {
        return Outcome::Unchanged;
    }
    out.extend(input.iter().map(|&byte| if byte == 0 { b' ' } else { byte }));
    Outcome::Changed
}
