//! `escapeSeqDecode`: the escapes of ANSI C.

use super::Outcome;
use super::hex;

/// `\a \b \f \n \r \t \v \\ \? \' \"`, `\xHH` and up to three octal digits; of other escapes the backslash vanishes. A backslash at
/// the end stays.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    unescape(input, out, escaped)
}

/// Puts in the place of each escape what `escaped` makes of what follows its backslash: a byte, and how many it stands for. A
/// backslash at the end stays.
pub(super) fn unescape(input: &[u8], out: &mut Vec<u8>, escaped: fn(&[u8]) -> (u8, usize)) -> Outcome {
    let Some(first) = memchr::memchr(b'\\', input).filter(|at| at + 1 < input.len()) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    let mut rest = &input[first..];
    while let Some(at) = memchr::memchr(b'\\', rest).filter(|at| at + 1 < rest.len()) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let (byte, length) = escaped(rest);
        out.push(byte);
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
    Outcome::Changed
}

/// The byte that an escape stands for and its length; `rest` begins after the backslash and is not empty.
fn escaped(rest: &[u8]) -> (u8, usize) {
    let Some(&letter) = rest.first() else {
        return (b'\\', 0);
    };
    let byte = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0B,
        b'x' | b'X' => match hex::byte_at(&rest[1..]) {
            Some(byte) => return (byte, 3),
            None => letter,
        },
        b'0'..=b'7' => return octal(rest),
        _ => letter,
    };
    (byte, 1)
}

/// Up to three octal digits; what is above 0xFF keeps its low eight bits.
fn octal(rest: &[u8]) -> (u8, usize) {
    let digits = rest.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    let value = rest[..digits].iter().fold(0_u32, |value, digit| value << 3 | u32::from(digit - b'0'));
    (value as u8, digits)
}
