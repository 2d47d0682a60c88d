//! Rules: files -> compiled -> swapped. A transaction keeps the set it began with; a bad file keeps
//! the old set and says file, line, column and why.

mod disk;
mod watch;

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use gateway_waf::{CompileOptions, Diagnostic, Entry, Level, Ruleset};

use crate::config::waf::{Mode, Rules as Origin, Waf};

pub use disk::{DiskSource, MAX_FILE_BYTES, MAX_FILES};
pub use watch::{Stamp, WATCH_INTERVAL, stamp};

/// The rule set that protects a gateway which was given no other.
pub const BUILT_IN: &str = include_str!("../../../config/rules/builtin.conf");

/// Rules that compiled.
#[derive(Debug)]
pub struct Loaded {
    /// The set.
    pub ruleset: Arc<Ruleset>,
    /// What there is to say about it, none of it an error.
    pub notices: Vec<Diagnostic>,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// Time from the first read to the finished set.
    pub took: Duration,
}

/// Rules that did not compile: all that was found.
#[derive(Debug, Clone, thiserror::Error)]
pub struct RulesError {
    /// Everything found, errors and the rest, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

impl std::fmt::Display for RulesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errors: Vec<_> = self.diagnostics.iter().filter(|d| d.level == Level::Error).collect();
        for (i, diagnostic) in errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

/// Reads and compiles the rules that the configuration names. The configured mode comes last, so
/// that it wins over a `SecRuleEngine` in the files.
///
/// # Errors
/// Everything wrong in the files, with places.
pub fn load(waf: &Waf) -> Result<Loaded, RulesError> {
    let start = Instant::now();
    let paths: Vec<String> = match &waf.rules {
        Origin::BuiltIn => Vec::new(),
        Origin::Files(files) => files.iter().map(|f| f.to_string_lossy().into_owned()).collect(),
    };
    let mut entries: Vec<Entry<'_>> = match &waf.rules {
        Origin::BuiltIn => vec![Entry::Text { name: "builtin.conf", text: BUILT_IN }],
        Origin::Files(_) => paths.iter().map(|p| Entry::File(p)).collect(),
    };
    let text = match waf.mode {
        Mode::Off => "SecRuleEngine Off",
        Mode::Detect => "SecRuleEngine DetectionOnly",
        Mode::Block => "SecRuleEngine On",
    };
    entries.push(Entry::Text { name: "[waf] mode", text });
    let source = DiskSource::default();
    // The memo's hash is keyed, so that nobody outside can aim at its slots.
    let options = CompileOptions { hash_seed: RandomState::new().hash_one(0), ..CompileOptions::default() };
    let (ruleset, notices) =
        Ruleset::compile(&source, &entries, &options).map_err(|diagnostics| RulesError { diagnostics })?;
    Ok(Loaded { ruleset: Arc::new(ruleset), notices, files: source.into_files(), took: start.elapsed() })
}

/// The rule set in force; requests take it with one pointer load.
#[derive(Debug)]
pub struct Rules(ArcSwap<Ruleset>);

impl Rules {
    /// Starts with a loaded set.
    pub fn new(ruleset: Arc<Ruleset>) -> Self {
        Self(ArcSwap::new(ruleset))
    }

    /// The set for a transaction that begins now.
    pub fn current(&self) -> Arc<Ruleset> {
        self.0.load_full()
    }

    /// Puts another set in force; transactions under way finish on theirs.
    pub fn swap(&self, ruleset: Arc<Ruleset>) {
        self.0.store(ruleset);
    }
}

#[cfg(test)]
mod tests;
