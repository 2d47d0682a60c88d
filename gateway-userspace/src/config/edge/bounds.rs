//! Checks that the sections share: ranges, names, references.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use crate::config::{Problems, Size, Span};

/// Longest name of a listener, upstream or route, in bytes.
pub const MAX_NAME: usize = 64;

/// A number in a range, or the default.
pub(super) fn number(
    key: &str,
    written: Option<Spanned<u64>>,
    default: u64,
    range: RangeInclusive<u64>,
    problems: &mut Problems<'_>,
) -> u64 {
    match written {
        None => default,
        Some(n) if range.contains(n.get_ref()) => n.into_inner(),
        Some(n) => {
            let (low, high) = (range.start(), range.end());
            problems.at(n.span(), format!("`{key}` must be from {low} to {high}; the default is {default}."));
            default
        }
    }
}

/// A duration in a range, or the default.
pub(super) fn duration(
    key: &str,
    written: Option<Spanned<Span>>,
    default: Duration,
    range: RangeInclusive<Duration>,
    problems: &mut Problems<'_>,
) -> Duration {
    match written {
        None => default,
        Some(d) if range.contains(&d.get_ref().0) => d.into_inner().0,
        Some(d) => {
            let (low, high) = (range.start(), range.end());
            problems.at(
                d.span(),
                format!("`{key}` must be from {low:?} to {high:?}; the default is {default:?}."),
            );
            default
        }
    }
}

/// A size in a range, or the default.
pub(super) fn size(
    key: &str,
    written: Option<Spanned<Size>>,
    default: u64,
    range: RangeInclusive<u64>,
    problems: &mut Problems<'_>,
) -> u64 {
    match written {
        None => default,
        Some(s) if range.contains(&s.get_ref().0) => s.into_inner().0,
        Some(s) => {
            let (low, high) = (range.start(), range.end());
            problems.at(
                s.span(),
                format!("`{key}` must be from {low} to {high} bytes; the default is {default}."),
            );
            default
        }
    }
}

/// A name: letters, digits, `-`, `_` and `.`; unique among `taken`.
pub(super) fn name(
    what: &str,
    written: Option<Spanned<String>>,
    fallback: String,
    taken: &mut Vec<String>,
    problems: &mut Problems<'_>,
) -> std::sync::Arc<str> {
    let name = match written {
        None => fallback,
        Some(n) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if n.get_ref().is_empty() || n.get_ref().len() > MAX_NAME || !n.get_ref().chars().all(plain) {
                problems.at(
                    n.span(),
                    format!("a {what}'s name has 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`."),
                );
            }
            if taken.contains(n.get_ref()) {
                problems.at(n.span(), format!("{what} `{}` is named twice.", n.get_ref()));
            }
            n.into_inner()
        }
    };
    taken.push(name.clone());
    name.into()
}
