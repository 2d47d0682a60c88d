//! `[waf]`: which rules, and what a match does.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{Base, Problems};

/// Most entries of `rules`.
pub const MAX_RULE_FILES: usize = 256;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    mode: Mode,
    rules: Option<Spanned<Vec<String>>>,
    audit_log: Option<String>,
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
    /// Files or globs, in this order.
    Files(Vec<PathBuf>),
}

/// The rule engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waf {
    /// Default block.
    pub mode: Mode,
    /// Default: the built-in set.
    pub rules: Rules,
    /// Where the audit log goes; default: none.
    pub audit_log: Option<PathBuf>,
}

pub(super) fn check(raw: Raw, base: &Base, problems: &mut Problems<'_>) -> Waf {
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
    Waf { mode: raw.mode, rules, audit_log: raw.audit_log.map(|p| base.path(&p)) }
}
