//! A pattern as a small tree over case-folded bytes: what the analysis works on.
//!
//! The language of the tree is a superset of the pattern's: case is folded, look-around other than the true start and
//! end of the value is dropped, and what is too deep becomes "anything".

use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::bytes::ByteMask;

/// Nesting beyond which a sub-pattern counts as anything.
const DEPTH_MAX: usize = 200;

/// A set of bytes; upper-case letters are folded to lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) fn insert(&mut self, byte: u8) {
        let byte = byte.to_ascii_lowercase();
        self.0[usize::from(byte) / 64] |= 1 << (byte % 64);
    }

    pub(super) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.into_iter().enumerate().flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then(|| word as u8 * 64 + bit as u8)
            })
        })
    }

    pub(super) fn union(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
    }

    /// The bytes of `self` that are not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut left = *self;
        for (word, other) in left.0.iter_mut().zip(other.0) {
            *word &= !other;
        }
        left
    }

    /// The presence bits of which a value must have one to have a byte of the set. A letter has the bit that both
    /// its cases share.
    pub(super) fn mask(&self) -> u64 {
        let mut mask = if (self.0[2] | self.0[3]) != 0 { ByteMask::HIGH.0 } else { 0 };
        for (word, first) in [(self.0[0], 0), (self.0[1], 64)] {
            let mut bits = word;
            while bits != 0 {
                mask |= ByteMask::of_byte(first + bits.trailing_zeros() as u8).0;
                bits &= bits - 1;
            }
        }
        mask
    }

    /// The byte of a set that has one.
    pub(super) fn only(&self) -> Option<u8> {
        if self.len() == 1 { self.iter().next() } else { None }
    }
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// The empty string.
    Empty,
    /// Nothing at all.
    Never,
    /// The start of the value.
    Start,
    /// The end of the value.
    End,
    /// One byte.
    Byte(ByteSet),
    /// One after the other.
    Concat(Vec<Node>),
    /// One of them.
    Either(Vec<Node>),
    /// `min` times or more; `true`: no more than `min` times, in fact exactly.
    Repeat { min: u32, max: Option<u32>, node: Box<Node> },
}

impl Node {
    /// The tree of a parsed pattern.
    pub(super) fn of(hir: &Hir) -> Self {
        Self::build(hir, 0)
    }

    fn build(hir: &Hir, depth: usize) -> Self {
        if depth > DEPTH_MAX {
            return Self::anything();
        }
        match hir.kind() {
            HirKind::Empty => Self::Empty,
            HirKind::Literal(literal) => {
                Self::concat(literal.0.iter().map(|byte| Self::byte(*byte)).collect())
            }
            HirKind::Class(class) => Self::class(class),
            HirKind::Look(Look::Start) => Self::Start,
            HirKind::Look(Look::End) => Self::End,
            HirKind::Look(_) => Self::Empty,
            HirKind::Repetition(repetition) => Self::Repeat {
                min: repetition.min,
                max: repetition.max,
                node: Box::new(Self::build(&repetition.sub, depth + 1)),
            },
            HirKind::Capture(capture) => Self::build(&capture.sub, depth + 1),
            HirKind::Concat(parts) => {
                Self::concat(parts.iter().map(|part| Self::build(part, depth + 1)).collect())
            }
            HirKind::Alternation(parts) => {
                Self::Either(parts.iter().map(|part| Self::build(part, depth + 1)).collect())
            }
        }
    }

    fn anything() -> Self {
        Self::Repeat { min: 0, max: None, node: Box::new(Self::Byte(ByteSet([u64::MAX; 4]))) }
    }

    fn byte(byte: u8) -> Self {
        let mut set = ByteSet::default();
        set.insert(byte);
        Self::Byte(set)
    }

    fn class(class: &Class) -> Self {
        let mut set = ByteSet::default();
        match class {
            Class::Bytes(class) => {
                for range in class.ranges() {
                    (range.start()..=range.end()).for_each(|byte| set.insert(byte));
                }
            }
            Class::Unicode(class) => {
                for range in class.ranges() {
                    if !range.end().is_ascii() {
                        return Self::anything();
                    }
                    (range.start() as u8..=range.end() as u8).for_each(|byte| set.insert(byte));
                }
            }
        }
        if set.is_empty() { Self::Never } else { Self::Byte(set) }
    }

    fn concat(parts: Vec<Node>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::Never => return Self::Never,
                Self::Empty => {}
                Self::Concat(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::Empty,
            1 => flat.remove(0),
            _ => Self::Concat(flat),
        }
    }

    /// What is left of the pattern on values that have none of these bytes.
    pub(super) fn without(&self, absent: &ByteSet) -> Self {
        match self {
            Self::Byte(set) => {
                let left = set.without(absent);
                if left.is_empty() { Self::Never } else { Self::Byte(left) }
            }
            Self::Concat(parts) => Self::concat(parts.iter().map(|part| part.without(absent)).collect()),
            Self::Either(parts) => {
                let mut left: Vec<Self> = parts
                    .iter()
                    .map(|part| part.without(absent))
                    .filter(|part| *part != Self::Never)
                    .collect();
                left.dedup();
                match left.len() {
                    0 => Self::Never,
                    1 => left.remove(0),
                    _ => Self::Either(left),
                }
            }
            Self::Repeat { min, max, node } => match node.without(absent) {
                Self::Never if *min == 0 => Self::Empty,
                Self::Never => Self::Never,
                Self::Empty => Self::Empty,
                node => Self::Repeat { min: *min, max: *max, node: Box::new(node) },
            },
            other => other.clone(),
        }
    }

    /// The bytes that may be left out anywhere: those of small sets without letters and digits under an optional
    /// repetition, as patterns that look through shell quoting have them.
    pub(super) fn optional_bytes(&self) -> ByteSet {
        let mut found = ByteSet::default();
        self.collect_optional(false, &mut found);
        found
    }

    fn collect_optional(&self, is_optional: bool, found: &mut ByteSet) {
        match self {
            Self::Byte(set)
                if is_optional && set.len() <= 32 && !set.iter().any(|b| b.is_ascii_alphanumeric()) =>
            {
                found.union(set);
            }
            Self::Concat(parts) | Self::Either(parts) => {
                parts.iter().for_each(|part| part.collect_optional(is_optional, found));
            }
            Self::Repeat { min, node, .. } => node.collect_optional(is_optional || *min == 0, found),
            _ => {}
        }
    }

    /// Shortest match, bytes.
    pub(super) fn min_len(&self) -> u32 {
        match self {
            Self::Empty | Self::Never | Self::Start | Self::End => 0,
            Self::Byte(_) => 1,
            Self::Concat(parts) => parts.iter().fold(0, |sum, part| sum.saturating_add(part.min_len())),
            Self::Either(parts) => parts.iter().map(Self::min_len).min().unwrap_or(0),
            Self::Repeat { min, node, .. } => node.min_len().saturating_mul(*min),
        }
    }

    /// Longest match, bytes; none when there is no bound.
    pub(super) fn max_len(&self) -> Option<u32> {
        match self {
            Self::Empty | Self::Never | Self::Start | Self::End => Some(0),
            Self::Byte(_) => Some(1),
            Self::Concat(parts) => parts.iter().try_fold(0_u32, |sum, part| sum.checked_add(part.max_len()?)),
            Self::Either(parts) => {
                parts.iter().try_fold(0, |longest: u32, part| part.max_len().map(|len| longest.max(len)))
            }
            Self::Repeat { max, node, .. } => node.max_len()?.checked_mul((*max)?),
        }
    }

    /// Every byte that a match may have.
    pub(super) fn bytes(&self, all: &mut ByteSet) {
        match self {
            Self::Byte(set) => all.union(set),
            Self::Concat(parts) | Self::Either(parts) => parts.iter().for_each(|part| part.bytes(all)),
            Self::Repeat { node, .. } => node.bytes(all),
            Self::Empty | Self::Never | Self::Start | Self::End => {}
        }
    }
}
