//! Looking at stretches of a pattern, for the translation.

use std::fmt::Write as _;

use super::class;

/// A literal byte in the syntax of the regex crate, outside of a class.
pub(super) fn push_literal(out: &mut String, byte: u8) {
    match byte {
        b'\\' | b'.' | b'+' | b'*' | b'?' | b'(' | b')' | b'|' | b'[' | b']' | b'{' | b'}' | b'^' | b'$' => {
            out.push('\\');
            out.push(char::from(byte));
        }
        0x20..=0x7E => out.push(char::from(byte)),
        _ => {
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
}

/// The text up to a closing byte, and how many bytes were used up to and with it.
pub(super) fn delimited(text: &[u8], from: usize, end: u8) -> Option<(&[u8], usize)> {
    let inner = text.get(from..)?;
    let length = memchr::memchr(end, inner)?;
    (length > 0).then_some((&inner[..length], from + length + 1))
}

/// `{2}`, `{2,}` or `{2,5}` at the start; other braces are literals.
pub(super) fn counted(text: &[u8]) -> Option<(String, usize)> {
    let (inner, length) = delimited(text.strip_prefix(b"{")?, 0, b'}')?;
    let is_number = |part: &[u8]| !part.is_empty() && part.len() <= 5 && part.iter().all(u8::is_ascii_digit);
    let valid = match memchr::memchr(b',', inner) {
        None => is_number(inner),
        Some(comma) => {
            is_number(&inner[..comma]) && (comma + 1 == inner.len() || is_number(&inner[comma + 1..]))
        }
    };
    valid.then(|| (String::from_utf8_lossy(&text[..=length]).into_owned(), length + 1))
}

/// How many capturing groups a pattern has, for telling back-references from octal numbers.
pub(super) fn count_groups(pattern: &[u8]) -> usize {
    let (mut at, mut groups) = (0, 0);
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b'\\' => at += 1,
            b'[' => {
                if let Ok((_, length)) = class::translate(pattern, at) {
                    at += length - 1;
                }
            }
            b'(' => {
                let next = pattern.get(at + 1..).unwrap_or_default();
                let is_named = next.starts_with(b"?P<")
                    || next.starts_with(b"?'")
                    || (next.starts_with(b"?<") && !matches!(next.get(2), Some(b'=' | b'!')));
                groups += usize::from(!next.starts_with(b"?") || is_named);
            }
            _ => {}
        }
        at += 1;
    }
    groups
}
