//! The screen in front of the operators: one pass over a value says which of all operators may match it.
//!
//! Patterns are cut into fragments, and for each fragment necessary conditions are kept: bytes that must be there or must
//! not, bounds of length, and literals of which one must occur. All literals are looked for at once, in folded
//! case. What passes is only a candidate: its own operator decides. So the screen may err on one side only, and
//! switched off (`CompileOptions::prefilter`) the engine must find the very same matches.

pub(crate) mod condition;
mod fragment;
mod grams;
mod literal;
pub(crate) mod memo;
mod node;
pub(crate) mod plan;
pub(crate) mod screen;
pub(crate) mod seen;

#[cfg(test)]
mod tests;
