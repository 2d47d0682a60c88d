//! `base64Encode`, `base64Decode`, `base64DecodeExt` (RFC 4648, the standard alphabet).

use super::Outcome;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of each character of the alphabet; 64 for the others.
static VALUES: [u8; 256] = {
    let mut values = [64; 256];
    let mut index = 0;
    while index < 64 {
        values[ALPHABET[index] as usize] = index as u8;
        index += 1;
    }
    values
};

pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if input.is_empty() {
        return Outcome::Unchanged;
    }
    out.reserve(input.len().div_ceil(3) * 4);
    for group in input.chunks(3) {
        let bits =
            group.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) as usize & 63;
            out.push(if place <= group.len() { ALPHABET[sextet] } else { b'=' });
        }
    }
    Outcome::Changed
}

/// `base64Decode`: decodes up to the first character that is not of the alphabet, as ModSecurity v2 and Coraza do. ModSecurity v3
/// gives an empty value for anything but well-formed input, which one stray byte is enough to exploit.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    decode_sextets(
        input.iter().map(|&byte| VALUES[usize::from(byte)]).take_while(|&value| value < 64),
        input,
        out,
    )
}

/// `base64DecodeExt`: leaves out whatever is not of the alphabet and decodes the rest.
pub(super) fn decode_ext(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    decode_sextets(
        input.iter().map(|&byte| VALUES[usize::from(byte)]).filter(|&value| value < 64),
        input,
        out,
    )
}

fn decode_sextets(sextets: impl Iterator<Item = u8>, input: &[u8], out: &mut Vec<u8>) -> Outcome {
    if input.is_empty() {
        return Outcome::Unchanged;
    }
    out.reserve(input.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for sextet in sextets {
        bits = bits << 6 | u32::from(sextet);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Outcome::Changed
}
