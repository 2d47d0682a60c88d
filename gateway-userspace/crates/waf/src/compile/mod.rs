//! From the AST to tables: everything that can be resolved at load is.

use crate::{lang::diagnostic::Diagnostic, source::FileSource};

/// A part of the configuration, in order.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A file or a glob, read through the [`FileSource`].
    File(&'a str),
    /// Text given directly; `name` stands for the file in diagnostics and `Include`s are relative to its folder.
    Text {
        /// Stands for the file.
        name: &'a str,
        /// The directives.
        text: &'a str,
    },
}

/// Choices that are no directives.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Screen values for all rules at once, asking single operators only where they may match. Off is the oracle.
    pub prefilter: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { prefilter: true }
    }
}

/// Compiled rules, shared by transactions.
#[derive(Debug, Default)]
pub struct Ruleset {}

impl Ruleset {
    /// Reads and compiles `entries` in order. Gives the rules and whatever there is to say about them; or, if
    /// anything is an error, all diagnostics.
    pub fn compile(
        files: &dyn FileSource,
        entries: &[Entry<'_>],
        options: &CompileOptions,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let _ = (files, entries, options);
        Ok((Self::default(), Vec::new()))
    }
}
