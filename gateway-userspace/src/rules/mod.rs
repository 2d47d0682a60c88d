//! Rules: files -> compiled -> swapped. A transaction keeps the set it began with; a bad file keeps
//! the old set and says file, line, column and why.

mod crs;
mod disk;
mod policies;
mod watch;

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_waf::{CompileOptions, Diagnostic, Entry, Level, Ruleset};

use crate::config::waf::{Mode, Rules as Origin, Waf};

use policies::Exclusions;

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

/// Reads and compiles the rules that the configuration names, with what routes change about them. The configured mode
/// comes last, so that it wins over a `SecRuleEngine` in the files.
///
/// # Errors
/// Everything wrong in the files, with places.
pub fn load(waf: &Waf) -> Result<Loaded, RulesError> {
    load_with(waf, true)
}

/// As [`load`]; without the prefilter every rule is asked, which is what a profile of the rules needs.
///
/// # Errors
/// As [`load`].
pub fn load_with(waf: &Waf, prefilter: bool) -> Result<Loaded, RulesError> {
    let start = Instant::now();
    let files: Vec<Named> = match &waf.rules {
        Origin::BuiltIn => vec![Named::Text("builtin.conf".to_owned(), BUILT_IN.to_owned())],
        Origin::Files(files) => files.iter().enumerate().map(|(n, f)| Named::new(f, n == 0)).collect(),
    };
    let exclusions = Exclusions::new(&waf.policies);
    let levels = policies::levels(&waf.policies, 0);
    let mut entries = Vec::with_capacity(files.len() + 3);
    if !waf.policies.is_empty() {
        entries.push(Entry::Text { name: policies::EXCLUSIONS, text: &exclusions.text });
        entries.push(Entry::Text { name: policies::LEVELS, text: &levels });
    }
    entries.extend(files.iter().map(Named::entry));
    let text = match waf.mode {
        Mode::Off => "SecRuleEngine Off",
        Mode::Detect => "SecRuleEngine DetectionOnly",
        Mode::Block => "SecRuleEngine On",
    };
    entries.push(Entry::Text { name: "[waf] mode", text });
    let mut source = DiskSource::default();
    if !levels.is_empty() {
        let text = policies::levels(&waf.policies, 1);
        source = source.with_before(crs::INITIALISATION, policies::LEVELS, text);
    }
    // The memo's hash is keyed, so that nobody outside can aim at its slots.
    let options =
        CompileOptions { hash_seed: RandomState::new().hash_one(0), prefilter, ..CompileOptions::default() };
    let compiled = Ruleset::compile(&source, &entries, &options);
    let locate = |mut diagnostics: Vec<Diagnostic>| {
        diagnostics.iter_mut().for_each(|d| exclusions.locate(d));
        diagnostics
    };
    let (ruleset, notices) =
        compiled.map_err(|diagnostics| RulesError { diagnostics: locate(diagnostics) })?;
    Ok(Loaded {
        ruleset: Arc::new(ruleset),
        notices: locate(notices),
        files: source.into_files(),
        took: start.elapsed(),
    })
}

/// What an entry of `[waf] rules` comes to.
enum Named {
    File(String),
    Text(String, String),
}

impl Named {
    fn new(path: &Path, is_first: bool) -> Self {
        if path.is_dir() {
            Self::Text(crs::name(path), crs::directives(path, is_first))
        } else {
            Self::File(path.to_string_lossy().into_owned())
        }
    }

    fn entry(&self) -> Entry<'_> {
        match self {
            Self::File(path) => Entry::File(path),
            Self::Text(name, text) => Entry::Text { name, text },
        }
    }
}

#[cfg(test)]
mod tests;
