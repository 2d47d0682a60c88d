//! The operators of SecLang, one file each (families of one algorithm share one).
//!
//! Compiling resolves everything (patterns, files, sets); evaluating allocates nothing unless a capture is asked for.
//! Negation (`!@`) belongs to the engine: [`Operator::evaluate`] answers whether the value matches.

mod capture;
mod compile;
mod context;
mod detect_sqli;
mod detect_xss;
mod error;
mod ip_match;
mod numeric;
pub mod pattern;
mod pm;
mod rx;
mod string;
mod validate;
mod verify;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use memchr::memmem;

pub use capture::{Captures, MAX_CAPTURES, MAX_OWNED_BYTES};
pub use context::{CompileContext, EvalContext, GeoLookup, GeoRecord, RblLookup};
pub use error::OperatorError;
pub use ip_match::{IpSet, MAX_NETWORKS};
pub use numeric::{Comparison, parse_integer};
pub use pm::{MAX_PHRASES, MAX_PHRASES_BYTES, Phrases};
pub use rx::{MAX_GLOBAL_MATCHES, MAX_MACRO_PATTERN_BYTES, MacroPattern};
pub use validate::ByteRange;
pub use verify::{MAX_CANDIDATES, NumberKind};

use pattern::{Pattern, Search};

/// An operator of a rule, compiled.
#[derive(Debug)]
pub struct Operator {
    name: &'static str,
    argument: String,
    has_macro: bool,
    kind: OperatorKind,
}

/// What an operator is, for who wants to look inside (the prefilter, the rule listing).
///
/// The string operators and comparisons hold their argument only where it has no macro.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperatorKind {
    /// `@beginsWith`: the argument, as bytes, at the start.
    BeginsWith,
    /// `@contains` and `@strmatch`: the argument anywhere; the searcher is built for arguments without macros.
    Contains(Option<Box<memmem::Finder<'static>>>),
    /// `@containsWord`.
    ContainsWord,
    /// `@detectSQLi`.
    DetectSqli,
    /// `@detectXSS`.
    DetectXss,
    /// `@endsWith`.
    EndsWith,
    /// `@geoLookup`.
    GeoLookup,
    /// `@ipMatch` and `@ipMatchFromFile`.
    IpMatch(IpSet),
    /// `@noMatch`.
    NoMatch,
    /// `@eq`, `@ge`, `@gt`, `@le`, `@lt`, with the argument where it has no macro.
    Numeric(Comparison, Option<i64>),
    /// `@pm` and `@pmFromFile`.
    Pm(Phrases),
    /// `@rbl`; the zone is the argument.
    Rbl,
    /// `@rx`.
    Rx(Pattern),
    /// `@rxGlobal`.
    RxGlobal(Pattern),
    /// `@rx` and `@rxGlobal` with macros: compiled when the argument is known. True for `@rxGlobal`.
    RxMacro(MacroPattern, bool),
    /// `@streq`.
    Streq,
    /// `@unconditionalMatch`.
    UnconditionalMatch,
    /// `@validateByteRange`.
    ValidateByteRange(Box<ByteRange>),
    /// `@validateUrlEncoding`.
    ValidateUrlEncoding,
    /// `@validateUtf8Encoding`.
    ValidateUtf8Encoding,
    /// `@verifyCC`, `@verifyCPF`, `@verifySSN`, `@verifySVNR`.
    Verify(NumberKind, Pattern),
    /// `@within`.
    Within,
}

impl Operator {
    /// Compiles an operator. `name` comes without `@` and `!`, in any case; `argument` as it stands in the rule, unquoted.
    ///
    /// # Errors
    /// [`OperatorError`] says what is wrong with the name or the argument.
    pub fn compile(name: &str, argument: &str, context: &CompileContext<'_>) -> Result<Self, OperatorError> {
        let (name, kind) = compile::compile(name, argument, context)?;
        let has_macro = kind.takes_macros() && has_macro(argument);
        Ok(Self { name, argument: argument.to_owned(), has_macro, kind })
    }

    /// The operator's name as the reference manual writes it, without `@`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The argument as written.
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// The argument when it has macros (`%{..}`) that this operator expands for each evaluation: the engine expands it and calls
    /// [`Self::evaluate`] with [`EvalContext::argument`] set. Without that, the argument counts as it is written.
    pub fn argument_macro(&self) -> Option<&str> {
        self.has_macro.then_some(self.argument.as_str())
    }

    /// What the operator is.
    pub fn kind(&self) -> &OperatorKind {
        &self.kind
    }

    /// Builds what the first evaluation would have to build: automata of patterns and phrases. Where that has been done it costs nothing.
    pub fn warm_up(&self) {
        match &self.kind {
            OperatorKind::Rx(pattern)
            | OperatorKind::RxGlobal(pattern)
            | OperatorKind::Verify(_, pattern) => {
                pattern.warm_up();
            }
            OperatorKind::Pm(phrases) => phrases.warm_up(),
            _ => {}
        }
    }

    /// Gives back the memory of what only compiling needs.
    pub(crate) fn forget_syntax(&mut self) {
        if let OperatorKind::Rx(pattern)
        | OperatorKind::RxGlobal(pattern)
        | OperatorKind::Verify(_, pattern) = &mut self.kind
        {
            pattern.forget_syntax();
        }
    }

    /// Whether the value matches. Captures are cleared and written only when the context asks for them and the value matches.
    pub fn evaluate(&self, input: &[u8], context: &mut EvalContext<'_>) -> bool {
        let argument = context.argument.unwrap_or(self.argument.as_bytes());
        match &self.kind {
            OperatorKind::BeginsWith => input.starts_with(argument),
            OperatorKind::Contains(Some(finder)) if context.argument.is_none() => {
                finder.find(input).is_some()
            }
            OperatorKind::Contains(_) => string::contains(input, argument),
            OperatorKind::ContainsWord => string::contains_word(input, argument),
            OperatorKind::DetectSqli => evaluate_sqli(input, context),
            OperatorKind::DetectXss => {
                let found = detect_xss::is_xss(input);
                if found && let Some(captures) = context.fresh_captures() {
                    captures.set_range(0, 0..input.len());
                }
                found
            }
            OperatorKind::EndsWith => input.ends_with(argument),
            OperatorKind::GeoLookup => evaluate_geo(input, context),
            OperatorKind::IpMatch(set) => {
                ip_match::address_of(input).is_some_and(|address| set.contains(address))
            }
            OperatorKind::NoMatch => false,
            OperatorKind::Numeric(comparison, known) => {
                let argument = match (context.argument, known) {
                    (None, Some(known)) => *known,
                    _ => parse_integer(argument),
                };
                comparison.holds(parse_integer(input), argument)
            }
            OperatorKind::Pm(phrases) => evaluate_phrases(phrases, input, context),
            OperatorKind::Rbl => evaluate_rbl(input, argument, context),
            OperatorKind::Rx(pattern) => rx::evaluate(pattern, input, context),
            OperatorKind::RxGlobal(pattern) => rx::evaluate_global(pattern, input, context),
            OperatorKind::RxMacro(cache, is_global) => match cache.pattern(argument) {
                Some(pattern) if *is_global => rx::evaluate_global(&pattern, input, context),
                Some(pattern) => rx::evaluate(&pattern, input, context),
                None => false,
            },
            OperatorKind::Streq => input == argument,
            OperatorKind::UnconditionalMatch => true,
            OperatorKind::ValidateByteRange(range) => range.is_violated_by(input),
            OperatorKind::ValidateUrlEncoding => validate::has_invalid_url_encoding(input),
            OperatorKind::ValidateUtf8Encoding => validate::is_invalid_utf8(input),
            OperatorKind::Verify(kind, pattern) => evaluate_verify(*kind, pattern, input, context),
            OperatorKind::Within => string::contains(argument, input),
        }
    }
}

impl OperatorKind {
    /// Whether macros in the argument are expanded for each evaluation; elsewhere they are plain text.
    fn takes_macros(&self) -> bool {
        matches!(
            self,
            Self::BeginsWith
                | Self::Contains(_)
                | Self::ContainsWord
                | Self::EndsWith
                | Self::Numeric(..)
                | Self::RxMacro(..)
                | Self::Streq
                | Self::Within
        )
    }
}

/// Whether a text has a macro to expand: `%{`, a letter, and a `}` somewhere after it. `%{2}` in a pattern is none.
fn has_macro(argument: &str) -> bool {
    argument.match_indices("%{").any(|(at, _)| {
        let rest = &argument.as_bytes()[at + 2..];
        rest.first().is_some_and(u8::is_ascii_alphabetic) && rest.contains(&b'}')
    })
}

fn evaluate_sqli(input: &[u8], context: &mut EvalContext<'_>) -> bool {
    let Some(captures) = context.fresh_captures() else {
        return detect_sqli::is_sqli(input);
    };
    match detect_sqli::fingerprint(input) {
        Some(fingerprint) => {
            captures.set_owned(0, fingerprint.as_bytes());
            true
        }
        None => false,
    }
}

fn evaluate_geo(input: &[u8], context: &mut EvalContext<'_>) -> bool {
    let database = context.geo;
    context.geo_record =
        ip_match::address_of(input).and_then(|address: IpAddr| database.and_then(|it| it.lookup(address)));
    context.geo_record.is_some()
}

fn evaluate_phrases(phrases: &Phrases, input: &[u8], context: &mut EvalContext<'_>) -> bool {
    let Some(captures) = context.fresh_captures() else {
        return phrases.is_match(input);
    };
    match phrases.find(input) {
        Some(range) => {
            captures.set_range(0, range);
            true
        }
        None => false,
    }
}

fn evaluate_rbl(input: &[u8], zone: &[u8], context: &mut EvalContext<'_>) -> bool {
    let answer = match (context.rbl, ip_match::address_of(input), std::str::from_utf8(zone)) {
        (Some(lists), Some(address), Ok(zone)) => lists.lookup(zone, address),
        _ => None,
    };
    let Some(text) = answer else {
        return false;
    };
    if let Some(captures) = context.fresh_captures() {
        captures.set_owned(0, text.as_bytes());
    }
    true
}

fn evaluate_verify(kind: NumberKind, pattern: &Pattern, input: &[u8], context: &mut EvalContext<'_>) -> bool {
    match verify::find(kind, pattern, input) {
        Ok((start, end)) => {
            if let Some(captures) = context.fresh_captures() {
                captures.set_range(0, start..end);
            }
            true
        }
        Err(search) => {
            context.pattern_limit_exceeded |= search == Search::LimitExceeded;
            false
        }
    }
}
