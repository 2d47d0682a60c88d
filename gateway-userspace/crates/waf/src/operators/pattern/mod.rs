//! Regular expressions of rules: PCRE's syntax, in byte mode.
//!
//! Two engines. Patterns that an automaton can do (all of CRS 4's) run on the regex crate: the cost is linear in the value, whatever
//! the pattern. The others (look-around, back-references, atomic groups, possessive quantifiers; in CRS 3.3 a dozen and in
//! users' own rules) run on fancy-regex, which backtracks: there [`BACKTRACK_LIMIT`] bounds the steps, and a search that meets it
//! does not match and says so, as ModSecurity does at SecPcreMatchLimit. PCRE2 itself would be the alternative for those: it knows
//! recursion and verbs too, but it is C behind `unsafe`, and its match limit is the same kind of bound.

mod class;
mod linear;
mod scan;
mod translate;

#[cfg(test)]
mod tests;

use regex_syntax::hir::Hir;

use super::Captures;
use linear::Linear;

/// Steps of backtracking that a search may take before it gives up (SecPcreMatchLimit's recommended value).
pub const BACKTRACK_LIMIT: usize = 100_000;

/// The same for values longer than [`LONG_VALUE_BYTES`]. A step may go over the whole value (a back-reference, a group that repeats
/// within a look-ahead); a search that begins anew at every place, at a few steps each, meets the other limit soon after this length anyway.
pub const BACKTRACK_LIMIT_LONG: usize = 2_000;

/// Longest value that [`BACKTRACK_LIMIT`] is for, in bytes.
pub const LONG_VALUE_BYTES: usize = 32 << 10;

/// Largest compiled form of one pattern, in bytes; more does not compile.
pub const COMPILED_LIMIT_BYTES: usize = 32 * 1024 * 1024;

/// Why a pattern does not compile. Offsets are bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The pattern breaks PCRE's syntax.
    #[error("at byte {offset} of the pattern: {what}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// PCRE would take it, this engine does not.
    #[error("at byte {offset} of the pattern: not supported: {what}")]
    Unsupported {
        /// Where.
        offset: usize,
        /// What it is.
        what: &'static str,
    },
    /// Longer than any sensible pattern.
    #[error("the pattern is longer than {limit} bytes")]
    TooLong {
        /// The most bytes.
        limit: usize,
    },
    /// Groups within groups beyond the bound.
    #[error("the pattern nests groups deeper than {limit}")]
    TooDeep {
        /// The most levels.
        limit: usize,
    },
    /// The regex engine refused it: too large, or an error that the translation let through.
    #[error("the pattern does not compile: {reason}")]
    Refused {
        /// What the engine said.
        reason: String,
    },
}

/// A pattern that is sure to compile.
#[derive(Debug, Clone)]
pub struct Pattern {
    engine: Engine,
}

#[derive(Debug, Clone)]
enum Engine {
    Linear(Linear),
    Backtracking(Box<Backtracking>),
}

/// A pattern under both limits.
#[derive(Debug, Clone)]
struct Backtracking {
    source: String,
    usual: fancy_regex::Regex,
    long: fancy_regex::Regex,
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// It matches.
    Found,
    /// It does not.
    NotFound,
    /// The search took too many steps and was given up.
    LimitExceeded,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says where and why.
    pub fn new(pattern: &[u8]) -> Result<Self, PatternError> {
        Self::with_limit(pattern, COMPILED_LIMIT_BYTES)
    }

    /// Compiles a pattern whose compiled form may have at most that many bytes.
    ///
    /// # Errors
    /// [`PatternError`] says where and why.
    pub fn with_limit(pattern: &[u8], compiled_bytes: usize) -> Result<Self, PatternError> {
        let translated = translate::translate(pattern)?;
        let engine = if translated.needs_backtracking {
            Engine::Backtracking(Box::new(Backtracking::new(translated.source, compiled_bytes)?))
        } else {
            Engine::Linear(Linear::new(translated.source, compiled_bytes)?)
        };
        Ok(Self { engine })
    }

    /// The pattern in the syntax of the regex crate: for it, `unicode(false)` and `dot_matches_new_line(true)` are to be set.
    pub fn source(&self) -> &str {
        match &self.engine {
            Engine::Linear(linear) => linear.source(),
            Engine::Backtracking(regex) => &regex.source,
        }
    }

    /// Builds what the first search would have to build. Where that has been done it costs nothing.
    pub fn warm_up(&self) {
        if let Engine::Linear(linear) = &self.engine {
            linear.regex();
        }
    }

    /// What was read of a pattern that an automaton runs, until it is forgotten.
    pub(crate) fn syntax(&self) -> Option<&Hir> {
        match &self.engine {
            Engine::Linear(linear) => linear.syntax(),
            Engine::Backtracking(_) => None,
        }
    }

    /// Gives back the memory of the [`syntax`](Self::syntax).
    pub(crate) fn forget_syntax(&mut self) {
        if let Engine::Linear(linear) = &mut self.engine {
            linear.forget_syntax();
        }
    }

    /// Whether an automaton runs the pattern, so that its cost is linear and its source parses with regex-syntax.
    pub fn is_linear(&self) -> bool {
        matches!(self.engine, Engine::Linear(_))
    }

    /// Looks for the pattern anywhere in the value.
    pub fn search(&self, value: &[u8]) -> Search {
        match &self.engine {
            Engine::Linear(linear) => match linear.is_whole(value) {
                Some(found) => Search::of(found),
                None => {
                    linear.regex().map_or(Search::LimitExceeded, |regex| Search::of(regex.is_match(value)))
                }
            },
            Engine::Backtracking(regex) => {
                regex.of(value).is_match(value).map_or(Search::LimitExceeded, Search::of)
            }
        }
    }

    /// Looks for the pattern and hands over the leftmost match and its groups, up to nine.
    pub fn search_with_captures(&self, value: &[u8], captures: &mut Captures) -> Search {
        captures.clear();
        self.capture_from(value, 0, captures).map_or_else(|search| search, |_| Search::Found)
    }

    /// Every match, one after the other without overlap, up to `most`: later ones overwrite the captures of earlier ones.
    pub fn search_all_with_captures(&self, value: &[u8], most: usize, captures: &mut Captures) -> Search {
        captures.clear();
        let mut from = 0;
        for turn in 0..most {
            match self.capture_from(value, from, captures) {
                // An empty match has to move on by itself.
                Ok((start, end)) => from = if end > start { end } else { end + 1 },
                Err(_) if turn > 0 => return Search::Found,
                Err(search) => return search,
            }
            if from > value.len() {
                break;
            }
        }
        Search::of(most > 0)
    }

    /// The first match at or after `from`, as a range of the value.
    ///
    /// # Errors
    /// [`Search::NotFound`] or [`Search::LimitExceeded`].
    pub fn find_from(&self, value: &[u8], from: usize) -> Result<(usize, usize), Search> {
        if from > value.len() {
            return Err(Search::NotFound);
        }
        let found = match &self.engine {
            Engine::Linear(linear) => {
                let regex = linear.regex().ok_or(Search::LimitExceeded)?;
                regex.find_at(value, from).map(|found| (found.start(), found.end()))
            }
            Engine::Backtracking(regex) => regex
                .of(value)
                .find_from_pos(value, from)
                .map_err(|_| Search::LimitExceeded)?
                .map(|found| (found.start(), found.end())),
        };
        found.ok_or(Search::NotFound)
    }

    fn capture_from(
        &self,
        value: &[u8],
        from: usize,
        captures: &mut Captures,
    ) -> Result<(usize, usize), Search> {
        match &self.engine {
            Engine::Linear(linear) => {
                if let Some(found) = linear.is_whole(value) {
                    if from > 0 || !found {
                        return Err(Search::NotFound);
                    }
                    captures.set_range(0, 0..value.len());
                    return Ok((0, value.len()));
                }
                let regex = linear.regex().ok_or(Search::LimitExceeded)?;
                // Without groups of its own the match is all there is to know, and finding it allocates nothing.
                if regex.captures_len() == 1 {
                    let found = regex.find_at(value, from).ok_or(Search::NotFound)?;
                    captures.set_range(0, found.range());
                    return Ok((found.start(), found.end()));
                }
                let groups = regex.captures_at(value, from).ok_or(Search::NotFound)?;
                for (index, group) in groups.iter().take(super::MAX_CAPTURES).enumerate() {
                    if let Some(group) = group {
                        captures.set_range(index, group.range());
                    }
                }
                groups.get(0).map(|all| (all.start(), all.end())).ok_or(Search::NotFound)
            }
            Engine::Backtracking(regex) => {
                let groups = regex
                    .of(value)
                    .captures_from_pos(value, from)
                    .map_err(|_| Search::LimitExceeded)?
                    .ok_or(Search::NotFound)?;
                for index in 0..groups.len().min(super::MAX_CAPTURES) {
                    if let Some(group) = groups.get(index) {
                        captures.set_range(index, group.start()..group.end());
                    }
                }
                groups.get(0).map(|all| (all.start(), all.end())).ok_or(Search::NotFound)
            }
        }
    }
}

impl Backtracking {
    fn new(source: String, compiled_bytes: usize) -> Result<Self, PatternError> {
        let under = |limit| {
            fancy_regex::RegexBuilder::new(&source)
                .bytes_mode(fancy_regex::BytesMode::Ascii)
                .dot_matches_new_line(true)
                .backtrack_limit(limit)
                .delegate_size_limit(compiled_bytes)
                .build()
                .map_err(|error| PatternError::Refused { reason: error.to_string() })
        };
        Ok(Self { usual: under(BACKTRACK_LIMIT)?, long: under(BACKTRACK_LIMIT_LONG)?, source })
    }

    fn of(&self, value: &[u8]) -> &fancy_regex::Regex {
        if value.len() > LONG_VALUE_BYTES { &self.long } else { &self.usual }
    }
}

impl Search {
    fn of(found: bool) -> Self {
        if found { Self::Found } else { Self::NotFound }
    }
}
