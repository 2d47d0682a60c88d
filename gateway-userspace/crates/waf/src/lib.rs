//! A SecLang engine: rules and bytes in, verdicts and records out.
#![forbid(unsafe_code)]

pub mod body;
pub mod bytes;
pub mod operators;
pub mod source;
pub mod transformations;

#[cfg(test)]
mod testing;
