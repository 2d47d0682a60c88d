//! `parityEven7bit`, `parityOdd7bit`, `parityZero7bit`: the eighth bit as parity of the others.

use super::Outcome;

pub(super) fn even(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    map(input, out, |byte| if byte.count_ones() % 2 == 1 { byte | 0x80 } else { byte & 0x7F })
}

pub(super) fn odd(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    map(input, out, |byte| if byte.count_ones() % 2 == 0 { byte | 0x80 } else { byte & 0x7F })
}

pub(super) fn zero(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    map(input, out, |byte| byte & 0x7F)
}

fn map(input: &[u8], out: &mut Vec<u8>, new: impl Fn(u8) -> u8) -> Outcome {
    let Some(first) = input.iter().position(|&byte| new(byte) != byte) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    out.extend(input[first..].iter().map(|&byte| new(byte)));
    Outcome::Changed
}
