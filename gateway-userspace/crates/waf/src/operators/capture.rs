//! What an operator hands to `TX:0` to `TX:9`.

use std::ops::Range;

/// How many captures SecLang has: `TX:0` to `TX:9`.
pub const MAX_CAPTURES: usize = 10;

/// Longest text that an operator gives in its own words (a fingerprint, a literal); what is longer is cut.
pub const MAX_OWNED_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
enum Slot {
    #[default]
    Unset,
    /// A range of the value that was looked at.
    Input { start: usize, end: usize },
    /// A range of `Captures::owned`.
    Owned { start: usize, end: usize },
}

/// Up to ten captured texts: ranges of the input, or short texts of the operator's own. Reused from rule to rule.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    slots: [Slot; MAX_CAPTURES],
    owned: Vec<u8>,
}

impl Captures {
    /// No captures.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all captures and keeps the memory.
    pub fn clear(&mut self) {
        self.slots = [Slot::Unset; MAX_CAPTURES];
        self.owned.clear();
    }

    /// Whether nothing has been captured.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot, Slot::Unset))
    }

    /// The text of a capture, when it was set; `input` is the value that the operator was given.
    pub fn get<'a>(&'a self, index: usize, input: &'a [u8]) -> Option<&'a [u8]> {
        match *self.slots.get(index)? {
            Slot::Unset => None,
            Slot::Input { start, end } => input.get(start..end),
            Slot::Owned { start, end } => self.owned.get(start..end),
        }
    }

    /// The range of the input that a capture covers; none when it is unset or a text of the operator's own.
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        match *self.slots.get(index)? {
            Slot::Input { start, end } => Some(start..end),
            Slot::Unset | Slot::Owned { .. } => None,
        }
    }

    /// The captures that are set, with their numbers.
    pub fn iter<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = (usize, &'a [u8])> {
        (0..MAX_CAPTURES).filter_map(move |index| Some((index, self.get(index, input)?)))
    }

    /// Captures a range of the input. Indexes past the last are ignored.
    pub fn set_range(&mut self, index: usize, range: Range<usize>) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Slot::Input { start: range.start, end: range.end };
        }
    }

    /// Captures a text of the operator's own, cut at [`MAX_OWNED_BYTES`]. Indexes past the last are ignored.
    pub fn set_owned(&mut self, index: usize, text: &[u8]) {
        let text = &text[..text.len().min(MAX_OWNED_BYTES)];
        if let Some(slot) = self.slots.get_mut(index) {
            let start = self.owned.len();
            self.owned.extend_from_slice(text);
            *slot = Slot::Owned { start, end: self.owned.len() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_ranges_or_owned_texts() {
        let mut captures = Captures::new();
        assert!(captures.is_empty());
        captures.set_range(0, 1..3);
        captures.set_owned(2, b"own");
        captures.set_range(10, 0..1);
        let got: Vec<_> = captures.iter(b"abcd").collect();
        assert_eq!(got, [(0, b"bc".as_slice()), (2, b"own")]);
        assert_eq!(captures.range(0), Some(1..3));
        assert_eq!(captures.range(2), None);
        captures.clear();
        assert!(captures.is_empty());
        captures.set_owned(0, &[b'x'; MAX_OWNED_BYTES + 1]);
        assert_eq!(captures.get(0, b"").map(<[u8]>::len), Some(MAX_OWNED_BYTES));
    }
}
