//! A pattern that an automaton runs: read and weighed when rules load, built when a value first meets it.
//!
//! Building costs several times what reading does, and the screens let few values come as far as a pattern. What can fail has to fail
//! at load, though: the syntax is read there, and [`weight`] tells from it whether the automaton is sure to fit. One that
//! may not is built at once.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::PatternError;

/// Largest cache of one pattern's lazily built automaton, in bytes, per thread that uses it.
const LAZY_CACHE_BYTES: usize = 2 * 1024 * 1024;

/// More than the automaton's compiler takes for an element of the pattern: three states and their transitions.
const ELEMENT_BYTES: usize = 128;

/// Most values of a [`Shape::One`].
const VALUES_MAX: usize = 8;

/// Patterns that need no search.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// Any value as a whole (`^.*$`, as rules write that only want the value captured).
    Any,
    /// One of some values as a whole (`^(?:GET|HEAD)$`).
    One(Box<[Box<[u8]>]>),
    Other,
}

/// A pattern in the syntax of the regex crate.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    source: Box<str>,
    syntax: Option<Box<Hir>>,
    compiled_bytes: usize,
    shape: Shape,
    /// None inside: it could not be built.
    regex: OnceLock<Option<Regex>>,
}

impl Linear {
    pub(super) fn new(source: String, compiled_bytes: usize) -> Result<Self, PatternError> {
        let refused = |reason: String| PatternError::Refused { reason };
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).dot_matches_new_line(true).build();
        let syntax = parser.parse(&source).map_err(|error| refused(error.to_string()))?;
        let regex = OnceLock::new();
        if weight(&syntax).saturating_mul(ELEMENT_BYTES) > compiled_bytes {
            let built = build(&source, compiled_bytes).map_err(|error| refused(error.to_string()))?;
            regex.get_or_init(|| Some(built));
        }
        let shape = Shape::of(&syntax);
        Ok(Self { source: source.into(), syntax: Some(Box::new(syntax)), compiled_bytes, shape, regex })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn syntax(&self) -> Option<&Hir> {
        self.syntax.as_deref()
    }

    pub(super) fn forget_syntax(&mut self) {
        self.syntax = None;
    }

    /// For a pattern that can only match a value as a whole, once, and has no groups: whether it does.
    #[inline]
    pub(super) fn is_whole(&self, value: &[u8]) -> Option<bool> {
        match &self.shape {
            Shape::Any => Some(true),
            Shape::One(values) => Some(values.iter().any(|known| **known == *value)),
            Shape::Other => None,
        }
    }

    /// The automaton, built if it is not yet. None where that fails, which the check at load rules out.
    #[inline]
    pub(super) fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| build(&self.source, self.compiled_bytes).ok()).as_ref()
    }
}

fn build(source: &str, compiled_bytes: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(compiled_bytes)
        .dfa_size_limit(LAZY_CACHE_BYTES)
        .build()
}

impl Shape {
    fn of(syntax: &Hir) -> Self {
        let HirKind::Concat(parts) = syntax.kind() else { return Self::Other };
        let [start, middle, end] = &parts[..] else { return Self::Other };
        if !matches!((start.kind(), end.kind()), (HirKind::Look(Look::Start), HirKind::Look(Look::End))) {
            return Self::Other;
        }
        let is_any = |syntax: &Hir| match syntax.kind() {
            HirKind::Class(Class::Bytes(class)) => {
                matches!(class.ranges(), [all] if (all.start(), all.end()) == (0, u8::MAX))
            }
            _ => false,
        };
        let literal = |syntax: &Hir| match syntax.kind() {
            HirKind::Literal(literal) => Some(literal.0.clone()),
            _ => None,
        };
        let values: Option<Box<[_]>> = match middle.kind() {
            HirKind::Repetition(all) if all.min == 0 && all.max.is_none() && is_any(&all.sub) => {
                return Self::Any;
            }
            HirKind::Alternation(all) if all.len() <= VALUES_MAX => all.iter().map(literal).collect(),
            _ => literal(middle).map(|value| Box::from([value])),
        };
        values.map_or(Self::Other, Self::One)
    }
}

/// How many elements a pattern has with its repetitions written out, at least.
fn weight(syntax: &Hir) -> usize {
    // Around the whole: what skips to the match's beginning, the group that the match is, the end.
    element(syntax).saturating_add(4)
}

fn element(syntax: &Hir) -> usize {
    let sum = |parts: &[Hir]| parts.iter().fold(1, |sum: usize, part| sum.saturating_add(element(part)));
    match syntax.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Bytes(class)) => 1 + class.ranges().len() / 8,
        HirKind::Class(Class::Unicode(class)) if class.is_ascii() => 1 + class.ranges().len() / 8,
        // There are none with Unicode off.
        HirKind::Class(Class::Unicode(_)) => usize::MAX,
        HirKind::Capture(capture) => element(&capture.sub).saturating_add(1),
        HirKind::Concat(parts) => sum(parts),
        HirKind::Alternation(parts) => sum(parts).saturating_add(parts.len()),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(0).max(repetition.min.saturating_add(1)) as usize;
            element(&repetition.sub).saturating_add(1).saturating_mul(times).saturating_add(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// A pattern that counts as light has to compile within its weight; a heavy one is built, or refused, at load.
    #[test]
    fn the_weight_is_an_upper_bound() {
        let rows = [
            "",
            "a",
            "abc",
            "[a-z0-9_.+-]",
            "[acegikmoqsuwy]",
            "(?:a|bc|def)",
            "(?i)(?:select|union|sleep|benchmark)",
            "a|b|[c-e]|fgh|",
            "(a)(b(c))",
            "^a$|\\bx\\B",
            "a*b+c?d{3}e{2,}f{2,9}g{0,3}",
            "(?:a?){1,40}",
            "(?:(?:a{1,9}|b){2,7}c*){3,}",
            "(?:|a|ab|abc|abcd|b|bc|bcd)",
            "(?:[\\x00-\\xff]{10}){10}",
            "(?:ab|ac|ad){50}",
            "(?U)a*?(?:b|c)*",
            "(?:a*)*",
            "(?:[ab]|[cd]e){0}",
        ];
        for source in rows {
            let linear = Linear::new(source.to_owned(), 1 << 20).unwrap_or_else(|e| panic!("{source}: {e}"));
            let bytes = weight(linear.syntax().expect("kept until forgotten")) * ELEMENT_BYTES;
            assert!(build(source, bytes).is_ok(), "{source} does not fit into {bytes} bytes");
            assert!(
                linear.regex.get().is_none() && linear.regex().is_some(),
                "{source} is built when asked for"
            );
        }
    }

    #[test]
    fn random_patterns_never_fail_after_load() {
        const PIECES: [&[u8]; 18] = [
            b"a",
            b"bc",
            b"[a-z]",
            b"[^,;]",
            b"(?:",
            b"(",
            b")",
            b")",
            b"|",
            b"{3}",
            b"{2,9}",
            b"{4,}",
            b"*",
            b"?",
            b"|abc|abd|xyz",
            b"(?i)sel",
            b"$",
            b"(?:foo|fob|f)",
        ];
        let mut random = Random::new(65);
        let (mut light, mut heavy, mut refused) = (0, 0, 0);
        for _ in 0..20_000 {
            let source = String::from_utf8(random.value(&PIECES, 24)).expect("ASCII");
            if ParserBuilder::new().build().parse(&source).is_err() {
                continue;
            }
            match Linear::new(source.clone(), 1000 << random.below(8)) {
                Ok(linear) if linear.regex.get().is_none() => {
                    light += 1;
                    assert!(
                        linear.regex().is_some(),
                        "{source} does not fit into {} bytes",
                        linear.compiled_bytes
                    );
                }
                Ok(_) => heavy += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(
            light > 1000 && heavy > 100 && refused > 30,
            "{light} light, {heavy} heavy, {refused} refused"
        );
    }

    #[test]
    fn what_needs_no_search() {
        let one = |values: &[&str]| Shape::One(values.iter().map(|value| value.as_bytes().into()).collect());
        for (source, expected) in [
            ("^.*$", Shape::Any),
            ("^.*?$", Shape::Any),
            ("^[\\x00-\\xff]*$", Shape::Any),
            ("^(?:GET|HEAD)$", one(&["GET", "HEAD"])),
            ("^404$", one(&["404"])),
            ("^(?:a|ab|abc)$", one(&["a", "ab", "abc"])),
            ("^(?-s:.)*$", Shape::Other),
            ("(?m)^.*$", Shape::Other),
            ("(?m)^404$", Shape::Other),
            ("^.+$", Shape::Other),
            ("^(.*)$", Shape::Other),
            ("^(GET|HEAD)$", Shape::Other),
            ("^(?i:get)$", Shape::Other),
            ("^$", Shape::Other),
            ("^.*", Shape::Other),
            ("404$", Shape::Other),
            (".*", Shape::Other),
            ("^a*$", Shape::Other),
        ] {
            let linear = Linear::new(source.to_owned(), 1 << 20).expect("compiles");
            assert_eq!(linear.shape, expected, "{source}");
            for value in ["", "a", "ab", "GET", "get", "xGETx", "HEAD", "404", "404\n", "a\nb"] {
                let found = linear.regex().expect("builds").find(value.as_bytes()).map(|found| found.range());
                if let Some(matches) = linear.is_whole(value.as_bytes()) {
                    assert_eq!(found, matches.then_some(0..value.len()), "{source} on {value:?}");
                }
            }
        }
    }

    #[test]
    fn what_may_not_fit_is_decided_at_load() {
        for (source, bytes, fits) in [
            ("(?:.{100}){10}", 1 << 20, true),
            ("(?:.{100}){10}", 100_000, true),
            ("(?:.{100}){10}", 10_000, false),
            ("(?:(?:.{1000}){1000}){1000}", 1 << 20, false),
        ] {
            let linear = Linear::new(source.to_owned(), bytes);
            assert_eq!(linear.is_ok(), fits, "{source} in {bytes} bytes");
            let is_light = linear.as_ref().is_ok_and(|linear| linear.regex.get().is_none());
            assert_eq!(is_light, bytes == 1 << 20 && fits, "{source} in {bytes} bytes");
        }
    }
}
