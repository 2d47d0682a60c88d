//! Why an operator does not compile.

use super::pattern::PatternError;
use crate::source::SourceError;

/// Why an operator does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// No operator has that name.
    #[error("there is no operator @{name}")]
    Unknown {
        /// The name as written.
        name: String,
    },
    /// The operator exists elsewhere and is refused here.
    #[error("@{name} is not supported: {reason}")]
    Unsupported {
        /// The name as the manual writes it.
        name: &'static str,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// The operator's regular expression does not compile.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A data file could not be read.
    #[error("data file {0}")]
    File(#[from] SourceError),
    /// The argument is missing or malformed.
    #[error("@{name}: {reason}")]
    Argument {
        /// The operator.
        name: &'static str,
        /// What is wrong with it, with the part that is.
        reason: String,
    },
    /// A list is longer than its bound.
    #[error("@{name}: more than {limit} {what}; split the list")]
    TooMany {
        /// The operator.
        name: &'static str,
        /// What there are too many of.
        what: &'static str,
        /// The most.
        limit: usize,
    },
}
