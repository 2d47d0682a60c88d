//! The transformation functions of SecLang, one file each (families of one algorithm share one).
//!
//! A transformation that would change nothing says so without allocating: each looks for the first byte that it would
//! change, and only from there on copies. All are total (any bytes in, no error, no panic) and linear in the input.

mod case;
mod nulls;

use crate::bytes::ByteMask;

/// What a transformation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The value stays as it is; nothing was written.
    Unchanged,
    /// The new value has been written.
    Changed,
}

/// A transformation function (`t:` in a rule). `t:none` is not one: it empties the list of those before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transformation {
    /// `lowercase`: ASCII letters to lower case.
    Lowercase,
    /// `removeNulls`: drops NUL bytes.
    RemoveNulls,
    /// `replaceNulls`: NUL bytes become spaces.
    ReplaceNulls,
    /// `uppercase`: ASCII letters to upper case.
    Uppercase,
}

use Transformation as T;

/// Every transformation with its name and the other names that it goes by.
const NAMES: &[(Transformation, &str, &[&str])] = &[
    (T::Lowercase, "lowercase", &[]),
    (T::RemoveNulls, "removeNulls", &[]),
    (T::ReplaceNulls, "replaceNulls", &[]),
    (T::Uppercase, "uppercase", &[]),
];

impl Transformation {
    /// The transformation of that name, in any case, by its name in ModSecurity v2 or v3.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, own, others)| {
                own.eq_ignore_ascii_case(name) || others.iter().any(|other| other.eq_ignore_ascii_case(name))
            })
            .map(|(it, _, _)| *it)
    }

    /// The name as the reference manual writes it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(it, _, _)| *it == self).map_or("", |(_, name, _)| name)
    }

    /// Every transformation, in the order of the names.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(it, _, _)| *it)
    }

    /// Appends the transformed value to `out`, which the caller hands over empty, and returns [`Outcome::Changed`]; or
    /// leaves `out` empty and returns [`Outcome::Unchanged`].
    pub fn apply(self, input: &[u8], out: &mut Vec<u8>) -> Outcome {
        match self {
            Self::Lowercase => case::lowercase(input, out),
            Self::RemoveNulls => nulls::remove(input, out),
            Self::ReplaceNulls => nulls::replace(input, out),
            Self::Uppercase => case::uppercase(input, out),
        }
    }

    /// Whether the transformation cannot change a value that has no bytes but those of `mask`. Never true wrongly;
    /// false means only that it has to be run.
    pub fn is_noop_for(self, mask: ByteMask) -> bool {
        match self {
            Self::Lowercase => !mask.intersects(ByteMask::UPPER),
            Self::RemoveNulls | Self::ReplaceNulls => !mask.intersects(ByteMask::CONTROL),
            Self::Uppercase => !mask.intersects(ByteMask::LETTERS),
        }
    }
}
