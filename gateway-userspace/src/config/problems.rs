//! What is wrong in a configuration: every problem, with its place and the remedy.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::policy::Place;

/// One problem of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 where the problem has no place in the text.
    pub line: usize,
    /// Column in characters, from 1; 0 where the problem has no place in the text.
    pub column: usize,
    /// What is wrong and what to do, in sentences.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}:{}:{}: {}", self.file.display(), line, self.column, self.message),
        }
    }
}

/// Collects the problems of one file while it is checked, so that all are told at once.
#[derive(Debug)]
pub struct Problems<'a> {
    file: &'a Path,
    text: &'a str,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// An empty collection for `file` with the content `text`.
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// Where a byte range of the text begins.
    pub fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = self.line_and_column(span);
        Place { file: self.file.display().to_string().into(), line: line as u32, column: column as u32 }
    }

    fn line_and_column(&self, span: &Range<usize>) -> (usize, usize) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        (line, before.rsplit('\n').next().unwrap_or("").chars().count() + 1)
    }

    /// Adds a problem at a byte range of the text; say what is wrong, then what to do.
    pub fn at(&mut self, span: Range<usize>, message: impl Into<String>) {
        let (line, column) = self.line_and_column(&span);
        self.found.push(Problem { file: self.file.to_owned(), line, column, message: message.into() });
    }

    /// Adds a problem that has no place in the text, such as a section that is missing.
    pub fn whole(&mut self, message: impl Into<String>) {
        self.found.push(Problem { file: self.file.to_owned(), line: 0, column: 0, message: message.into() });
    }

    /// Whether nothing was found so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the text.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|p| (p.line, p.column));
        self.found
    }
}

/// A configuration that was refused, with every problem found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
