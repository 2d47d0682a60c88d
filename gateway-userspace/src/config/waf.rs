//! `[waf]`: which rules, and what a match does.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::policy::Policy;
use super::{Base, Problems, Size};

/// Most entries of `rules`.
pub const MAX_RULE_FILES: usize = 256;
/// Default of `log_matches`, lines a second.
const LOG_MATCHES: u32 = 100;
/// Bounds of `spool_above`, in bytes.
const SPOOL_ABOVE: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;
/// Bounds of `spool_bytes`, in bytes.
const SPOOL_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Bounds of `spool_files`.
const SPOOL_FILES: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    mode: Mode,
    rules: Option<Spanned<Vec<String>>>,
    audit_log: Option<String>,
    log_matches: Option<Spanned<u32>>,
    spool: Option<String>,
    spool_above: Option<Spanned<Size>>,
    spool_bytes: Option<Spanned<Size>>,
    spool_files: Option<Spanned<u32>>,
}

/// What the rule engine does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Rules don't run.
    Off,
    /// Rules run and are logged; nothing is refused (`SecRuleEngine DetectionOnly`).
    Detect,
    /// Rules decide (`SecRuleEngine On`).
    #[default]
    Block,
}

/// Where rules come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// The set that is part of the program.
    BuiltIn,
    /// Files, globs or folders with a Core Rule Set, in this order.
    Files(Vec<PathBuf>),
}

/// The rule engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waf {
    /// Default block.
    pub mode: Mode,
    /// Default: the built-in set.
    pub rules: Rules,
    /// Where the audit log goes; default: where `SecAuditLog` of the rules says.
    pub audit_log: Option<PathBuf>,
    /// Lines in the daemon's log a second for rules that matched; 0 to 1,000,000, default 100; 0: none. Past it they are counted.
    pub log_matches: u32,
    /// Where large uploads wait while they are inspected.
    pub spool: Spool,
    /// What routes change about the rules; [`super::edge::Route::waf_policy`] numbers them from 1.
    pub policies: Vec<Policy>,
}

/// Temporary storage for bodies and files that are too large to hold in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Default `/var/tmp`: not memory, as `/tmp` often is.
    pub folder: PathBuf,
    /// A body or uploaded file keeps this many bytes in memory, the rest goes to storage; 4 KiB to 64 MiB, default 256 KiB.
    pub above: u64,
    /// Bytes in storage at a time; 1 MiB to 1 TiB, default 4 GiB. Past it requests are refused with 503.
    pub bytes: u64,
    /// Files in storage at a time; 1 to 1,000,000, default 1,024. Past it requests are refused with 503.
    pub files: u32,
}

impl Default for Spool {
    fn default() -> Self {
        Self { folder: PathBuf::from("/var/tmp"), above: 256 << 10, bytes: 4 << 30, files: 1024 }
    }
}

impl Default for Waf {
    /// As an empty section.
    fn default() -> Self {
        Self {
            mode: Mode::Block,
            rules: Rules::BuiltIn,
            audit_log: None,
            log_matches: LOG_MATCHES,
            spool: Spool::default(),
            policies: Vec::new(),
        }
    }
}

pub(super) fn check(raw: Raw, policies: Vec<Policy>, base: &Base, problems: &mut Problems<'_>) -> Waf {
    let rules = match raw.rules {
        None => Rules::BuiltIn,
        Some(list) => {
            if list.get_ref().is_empty() {
                problems.at(
                    list.span(),
                    "`rules` is empty: leave it out for the built-in set, or set mode = \"off\".",
                );
            }
            if list.get_ref().len() > MAX_RULE_FILES {
                problems.at(list.span(), format!("`rules` holds at most {MAX_RULE_FILES} files or globs."));
            }
            Rules::Files(list.into_inner().iter().map(|p| base.path(p)).collect())
        }
    };
    let spool = Spool::default();
    let spool = Spool {
        folder: raw.spool.map_or(spool.folder, |p| base.path(&p)),
        above: size("spool_above", raw.spool_above, spool.above, SPOOL_ABOVE, problems),
        bytes: size("spool_bytes", raw.spool_bytes, spool.bytes, SPOOL_BYTES, problems),
        files: raw.spool_files.map_or(spool.files, |files| {
            if !SPOOL_FILES.contains(files.get_ref()) {
                problems.at(files.span(), "`spool_files` must be from 1 to 1000000.");
            }
            files.into_inner()
        }),
    };
    let log_matches = raw.log_matches.map_or(LOG_MATCHES, |lines| {
        if *lines.get_ref() > 1_000_000 {
            problems.at(lines.span(), "`log_matches` must be from 0 to 1000000 lines a second.");
        }
        lines.into_inner()
    });
    let audit_log = raw.audit_log.map(|p| base.path(&p));
    Waf { mode: raw.mode, rules, audit_log, log_matches, spool, policies }
}

fn size(
    name: &str,
    raw: Option<Spanned<Size>>,
    default: u64,
    bounds: std::ops::RangeInclusive<u64>,
    problems: &mut Problems<'_>,
) -> u64 {
    let Some(raw) = raw else { return default };
    let bytes = raw.get_ref().0;
    if !bounds.contains(&bytes) {
        problems
            .at(raw.span(), format!("`{name}` must be from {} to {} bytes.", bounds.start(), bounds.end()));
    }
    bytes
}
