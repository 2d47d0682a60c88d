//! `lowercase` and `uppercase`: ASCII only, as in C's default locale.

use super::Outcome;

pub(super) fn lowercase(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let Some(first) = input.iter().position(u8::is_ascii_uppercase) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(input);
    out[first..].make_ascii_lowercase();
    Outcome::Changed
}

pub(super) fn uppercase(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let Some(first) = input.iter().position(u8::is_ascii_lowercase) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(input);
    out[first..].make_ascii_uppercase();
    Outcome::Changed
}
