//! The lines of a body, and which of them are boundaries.

use std::ops::Range;

use super::is_space;

/// A line of the body.
pub(super) struct Line {
    /// Without its end.
    pub(super) text: Range<usize>,
    /// Where the next line begins.
    pub(super) end: usize,
    pub(super) has_cr: bool,
}

impl Line {
    /// The line that begins at `start`.
    pub(super) fn at(body: &[u8], start: usize) -> Self {
        let rest = &body[start..];
        let Some(length) = memchr::memchr(b'\n', rest) else {
            return Self { text: start..body.len(), end: body.len(), has_cr: false };
        };
        let has_cr = length > 0 && rest[length - 1] == b'\r';
        Self { text: start..start + length - usize::from(has_cr), end: start + length + 1, has_cr }
    }

    /// Whether the line has an end; the last one of a body may not.
    pub(super) fn is_terminated(&self) -> bool {
        self.end > self.text.end
    }
}

/// What a line is to the framing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// Nothing.
    None,
    /// The boundary.
    Boundary { is_final: bool },
    /// It begins with dashes, or has the boundary somewhere within.
    Unmatched,
    /// The boundary in a form that other parsers may take.
    Invalid(&'static str),
}

/// What a line, without its end, is to the framing.
pub(super) fn marker(text: &[u8], boundary: &[u8], quoted: bool) -> Marker {
    let Some(after_dashes) = text.strip_prefix(b"--") else {
        return if has_boundary_within(text, boundary) { Marker::Unmatched } else { Marker::None };
    };
    if let Some(tail) = after_dashes.strip_prefix(boundary) {
        return match tail {
            b"" => Marker::Boundary { is_final: false },
            b"--" => Marker::Boundary { is_final: true },
            _ => Marker::Invalid("something follows it"),
        };
    }
    if quoted && after_dashes.strip_prefix(b"\"").is_some_and(|rest| rest.starts_with(boundary)) {
        return Marker::Invalid("quotes");
    }
    let spaces = after_dashes.iter().take_while(|byte| is_space(**byte)).count();
    if spaces > 0 && after_dashes[spaces..].starts_with(boundary) {
        return Marker::Invalid("whitespace before it");
    }
    if text.len() > 2 { Marker::Unmatched } else { Marker::None }
}

fn has_boundary_within(text: &[u8], boundary: &[u8]) -> bool {
    text.len() >= boundary.len() + 2
        && memchr::memmem::find_iter(text, boundary).any(|at| at >= 2 && text[at - 2..at] == *b"--")
}

/// Where the content ends that the boundary line at `offset` follows: the line end before it belongs to the boundary.
pub(super) fn content_end(body: &[u8], offset: usize) -> usize {
    let before = &body[..offset];
    before.strip_suffix(b"\r\n").or(before.strip_suffix(b"\n")).unwrap_or(before).len()
}
