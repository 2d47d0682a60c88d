//! `@rx` and `@rxGlobal`.

use std::sync::{Arc, Mutex, PoisonError};

use super::pattern::{Pattern, Search};
use super::{Captures, EvalContext};

/// Most matches that `@rxGlobal` looks for in one value.
pub const MAX_GLOBAL_MATCHES: usize = 1000;

/// Longest pattern that is compiled when a macro gives it, in bytes; longer ones do not match.
pub const MAX_MACRO_PATTERN_BYTES: usize = 4096;

/// Largest compiled form of such a pattern, in bytes.
const MACRO_COMPILED_BYTES: usize = 1024 * 1024;

pub(super) fn evaluate(pattern: &Pattern, input: &[u8], context: &mut EvalContext<'_>) -> bool {
    let search = match context.capture.as_deref_mut() {
        Some(captures) => pattern.search_with_captures(input, captures),
        None => pattern.search(input),
    };
    context.pattern_limit_exceeded |= search == Search::LimitExceeded;
    search == Search::Found
}

pub(super) fn evaluate_global(pattern: &Pattern, input: &[u8], context: &mut EvalContext<'_>) -> bool {
    let search = match context.capture.as_deref_mut() {
        Some(captures) => pattern.search_all_with_captures(input, MAX_GLOBAL_MATCHES, captures),
        None => pattern.search(input),
    };
    context.pattern_limit_exceeded |= search == Search::LimitExceeded;
    search == Search::Found
}

/// A pattern that is known only when its macros are expanded. The last one compiled is kept: a macro mostly says the same.
///
/// The lock is held for comparing and cloning a pointer only; two workers that meet a new text both compile it.
#[derive(Debug, Default)]
pub struct MacroPattern {
    last: Mutex<Option<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    text: Vec<u8>,
    /// None when the text does not compile.
    pattern: Option<Arc<Pattern>>,
}

impl MacroPattern {
    /// The pattern of an expanded argument; none when it is too long or does not compile.
    pub(super) fn pattern(&self, text: &[u8]) -> Option<Arc<Pattern>> {
        if text.len() > MAX_MACRO_PATTERN_BYTES {
            return None;
        }
        {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(compiled) = last.as_ref().filter(|compiled| compiled.text == text) {
                return compiled.pattern.clone();
            }
        }
        let pattern = Pattern::with_limit(text, MACRO_COMPILED_BYTES).ok().map(Arc::new);
        let compiled = Compiled { text: text.to_vec(), pattern: pattern.clone() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(compiled);
        pattern
    }
}

impl EvalContext<'_> {
    /// The place for captures, emptied; none when the rule does not capture.
    pub(super) fn fresh_captures(&mut self) -> Option<&mut Captures> {
        let captures = self.capture.as_deref_mut()?;
        captures.clear();
        Some(captures)
    }
}
