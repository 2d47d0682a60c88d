//! The rule language as text: from files to an AST with positions, and diagnostics.

pub mod diagnostic;
