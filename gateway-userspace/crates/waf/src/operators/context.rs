//! What an operator gets to see when it is compiled and when it runs.

use std::net::IpAddr;

use super::Captures;
use crate::source::FileSource;

/// What compiling an operator may ask.
#[derive(Clone, Copy)]
pub struct CompileContext<'a> {
    /// Where `@pmFromFile` and `@ipMatchFromFile` read.
    pub files: &'a dyn FileSource,
    /// The directory of the rule file: relative paths start there. Empty for the current directory.
    pub directory: &'a str,
}

impl CompileContext<'_> {
    /// A path of a rule file as the source knows it: absolute ones as they are, others below the rule file's directory.
    pub fn resolve(&self, path: &str) -> String {
        if path.starts_with('/') || self.directory.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.directory.trim_end_matches('/'))
        }
    }
}

/// What an evaluation may use besides the value.
#[derive(Default)]
pub struct EvalContext<'a> {
    /// The operator's argument with its macros expanded; needed when [`super::Operator::argument_macro`] is `Some`.
    pub argument: Option<&'a [u8]>,
    /// Where captures go; none when the rule does not ask for them, which spares the work.
    pub capture: Option<&'a mut Captures>,
    /// The geographic database for `@geoLookup`; without one the operator never matches.
    pub geo: Option<&'a dyn GeoLookup>,
    /// What `@geoLookup` found, for the engine to fill the `GEO` collection with.
    pub geo_record: Option<GeoRecord>,
    /// The answers for `@rbl`; without them the operator never matches.
    pub rbl: Option<&'a dyn RblLookup>,
    /// Set when a pattern that needs backtracking was given up at its limit, which counts as no match (`MSC_PCRE_LIMITS_EXCEEDED`).
    pub pattern_limit_exceeded: bool,
}

impl EvalContext<'_> {
    /// A context without anything.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A geographic database.
pub trait GeoLookup: Send + Sync {
    /// What is known of an address, if anything. Has to answer from memory.
    fn lookup(&self, address: IpAddr) -> Option<GeoRecord>;
}

/// The fields of the `GEO` collection. Empty texts are unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeoRecord {
    /// ISO 3166-1 alpha-2 code.
    pub country_code: String,
    /// ISO 3166-1 alpha-3 code.
    pub country_code3: String,
    /// The country's English name.
    pub country_name: String,
    /// Two-letter continent code.
    pub country_continent: String,
    /// Region or state.
    pub region: String,
    /// City.
    pub city: String,
    /// Postal code.
    pub postal_code: String,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
}

/// Answers of DNS block lists (`@rbl`).
///
/// A library that does no I/O cannot wait for DNS in the middle of a rule: the implementer answers from a cache that it fills
/// on its own time, and says `None` for what it does not know yet, which does not match.
pub trait RblLookup: Send + Sync {
    /// Whether `address` is listed in `zone`, with the text that goes to `TX:0`; `None` when not listed or not known.
    fn lookup(&self, zone: &str, address: IpAddr) -> Option<String>;
}
