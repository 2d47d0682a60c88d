//! The rule language as text: from files to an AST with positions, and diagnostics.
//!
//! [`parse`] reads and checks the form of everything (directives, targets, action lists); it builds nothing, so rules can
//! be linted without compiling a pattern.

pub mod ast;
pub mod diagnostic;

mod actions;
mod directives;
mod lines;
mod parser;
mod targets;
mod words;

pub(crate) use directives::{audit_mode, engine_mode, xml_arguments};
pub use parser::{INCLUDE_DEPTH_MAX, INCLUDED_FILES_MAX, parse};
pub(crate) use parser::{id_range, parse_targets};
