//! A SecLang engine: rules and bytes in, verdicts and records out.
#![forbid(unsafe_code)]
