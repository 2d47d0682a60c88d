//! The operators of SecLang, one file each (families of one algorithm share one).
//!
//! Compiling resolves everything (patterns, files, sets); evaluating allocates nothing unless a capture is asked for.
//! Negation (`!@`) belongs to the engine: [`Operator::evaluate`] answers whether the value matches.

mod capture;
mod context;
mod string;

pub use capture::{Captures, MAX_CAPTURES, MAX_OWNED_BYTES};
pub use context::{CompileContext, EvalContext, GeoLookup, GeoRecord, RblLookup};

/// An operator of a rule, compiled.
#[derive(Debug)]
pub struct Operator {
    name: &'static str,
    argument: String,
    has_macro: bool,
    kind: OperatorKind,
}

/// What an operator is, for who wants to look inside (the prefilter, the rule listing).
#[derive(Debug)]
#[non_exhaustive]
pub enum OperatorKind {
    /// `@beginsWith`.
    BeginsWith,
    /// `@contains`.
    Contains,
    /// `@endsWith`.
    EndsWith,
    /// `@noMatch`.
    NoMatch,
    /// `@streq`.
    Streq,
    /// `@unconditionalMatch`.
    UnconditionalMatch,
    /// `@within`.
    Within,
}

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
}

impl Operator {
    /// Compiles an operator. `name` comes without `@` and `!`, in any case; `argument` as it stands in the rule, unquoted.
    ///
    /// # Errors
    /// [`OperatorError`] says what is wrong with the name or the argument.
    pub fn compile(name: &str, argument: &str, _context: &CompileContext<'_>) -> Result<Self, OperatorError> {
        let (name, kind) = match name.to_ascii_lowercase().as_str() {
            "beginswith" => ("beginsWith", OperatorKind::BeginsWith),
            "contains" => ("contains", OperatorKind::Contains),
            "endswith" => ("endsWith", OperatorKind::EndsWith),
            "nomatch" => ("noMatch", OperatorKind::NoMatch),
            "streq" => ("streq", OperatorKind::Streq),
            "unconditionalmatch" => ("unconditionalMatch", OperatorKind::UnconditionalMatch),
            "within" => ("within", OperatorKind::Within),
            _ => return Err(OperatorError::Unknown { name: name.to_owned() }),
        };
        Ok(Self { name, argument: argument.to_owned(), has_macro: has_macro(argument), kind })
    }

    /// The operator's name as the reference manual writes it, without `@`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The argument as written.
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// The argument when it has macros (`%{..}`) that this operator expands for each evaluation: the engine expands it and calls
    /// [`Self::evaluate`] with [`EvalContext::argument`] set.
    pub fn argument_macro(&self) -> Option<&str> {
        self.has_macro.then_some(self.argument.as_str())
    }

    /// What the operator is.
    pub fn kind(&self) -> &OperatorKind {
        &self.kind
    }

    /// Whether the value matches. Captures are written only when the context asks for them and the value matches.
    pub fn evaluate(&self, input: &[u8], context: &mut EvalContext<'_>) -> bool {
        let argument = context.argument.unwrap_or(self.argument.as_bytes());
        match &self.kind {
            OperatorKind::BeginsWith => input.starts_with(argument),
            OperatorKind::Contains => string::contains(input, argument),
            OperatorKind::EndsWith => input.ends_with(argument),
            OperatorKind::NoMatch => false,
            OperatorKind::Streq => input == argument,
            OperatorKind::UnconditionalMatch => true,
            OperatorKind::Within => string::contains(argument, input),
        }
    }
}

/// Whether a text has a macro to expand: `%{` with a `}` somewhere after it.
fn has_macro(argument: &str) -> bool {
    argument.find("%{").is_some_and(|at| argument[at..].contains('}'))
}
