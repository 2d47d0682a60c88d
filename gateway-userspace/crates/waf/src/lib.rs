//! A SecLang engine: rules and bytes in, verdicts and records out.
//!
//! SecLang is the rule language of ModSecurity. [`Ruleset::compile`] reads rule files (through a [`source::FileSource`])
//! into tables; a [`Transaction`] takes one request and its response through them, phase by phase, and answers each with
//! a [`Verdict`]; what matched is in [`Transaction::matches`].
//!
//! Architecture invariant: the crate does no I/O, reads no clock and draws no random numbers; what it needs of these
//! comes in through [`Connection`], [`Services`] and the file source.
#![forbid(unsafe_code)]

mod actions;
pub mod body;
pub mod bytes;
pub mod collections;
mod compile;
mod engine;
pub mod lang;
pub mod operators;
mod prefilter;
pub mod record;
pub mod source;
pub mod transformations;
mod variables;

pub use actions::Sanitised;
pub use compile::{CompileOptions, Entry, Ruleset, settings::Settings};
pub use engine::{
    context::{Connection, Observer, Scores, Services},
    matched::{Disruption, MatchedRule, MatchedValue, RuleInfo, Severity, Text},
    transaction::Transaction,
    verdict::{AllowScope, BodyOutcome, Verdict},
};
pub use lang::{
    ast::{AuditFormat, AuditMode, EngineMode},
    diagnostic::{Diagnostic, Level},
};
pub use variables::Variable;

/// Most values kept in one [`MatchedRule`]; the rule goes on matching, further values are not recorded.
pub const MATCHED_VALUES_MAX: usize = 32;
/// Longest value kept in a [`MatchedValue`], bytes; a longer one is cut.
pub const MATCHED_VALUE_MAX_BYTES: usize = 1024;

#[cfg(test)]
mod testing;
