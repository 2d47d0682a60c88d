//! `cmdLine`: undoes what shells ignore, so that `c^md" /c` and `cmd/c` look the same.
//!
//! Drops `"`, `'`, `\` and `^`; makes one space of each run of blanks, line ends, commas and semicolons; drops spaces before `/`
//! and `(`; lower-cases.

use super::Outcome;

/// What happens to each byte.
static CLASS: [u8; 256] = {
    let mut classes = [KEEP; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'"' | b'\'' | b'\\' | b'^' => DROP,
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => SPACE,
            b'/' | b'(' => JOIN,
            b'A'..=b'Z' => LOWER,
            _ => KEEP,
        };
        byte += 1;
    }
    classes
};

const KEEP: u8 = 0;
const DROP: u8 = 1;
const SPACE: u8 = 2;
const JOIN: u8 = 3;
const LOWER: u8 = 4;

pub(super) fn apply(input: &[u8], out: &mut Vec<u8>) -> Outcome {
    let class = |at: usize| input.get(at).map_or(KEEP, |&byte| CLASS[usize::from(byte)]);
    let changes = |at: usize| match class(at) {
        DROP | LOWER => true,
        SPACE => input[at] != b' ' || matches!(class(at + 1), SPACE | JOIN | DROP),
        _ => false,
    };
    let Some(first) = (0..input.len()).find(|&at| changes(at)) else {
        return Outcome::Unchanged;
    };
    out.extend_from_slice(&input[..first]);
    let mut after_space = false;
    let mut rest = &input[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        if CLASS[usize::from(byte)] == KEEP {
            // Words are copied whole.
            let word = rest.iter().position(|&byte| CLASS[usize::from(byte)] != KEEP).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..word]);
            rest = &rest[word..];
            after_space = false;
            continue;
        }
        rest = tail;
        match CLASS[usize::from(byte)] {
            DROP => {}
            SPACE => {
                if !after_space {
                    out.push(b' ');
                }
                after_space = true;
            }
            JOIN => {
                if after_space {
                    out.pop();
                }
                out.push(byte);
                after_space = false;
            }
            _ => {
                out.push(byte.to_ascii_lowercase());
                after_space = false;
            }
        }
    }
    Outcome::Changed
}
