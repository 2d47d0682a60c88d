//! `[log]`: the daemon's own log and the access log.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{Base, Problems};

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    level: Option<Spanned<String>>,
    format: Format,
    access: Option<String>,
    access_format: AccessFormat,
}

/// How the daemon's own log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; no colours unless standard error is a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How the access log's lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// Where an access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTarget {
    /// No access log.
    Off,
    /// Standard output.
    Stdout,
    /// A file, reopened on SIGHUP.
    File(PathBuf),
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info` (the default), `debug` or `trace`.
    pub level: tracing::Level,
    /// Form of the daemon's own lines; default text.
    pub format: Format,
    /// Where the access log goes: `off`, `stdout` (the default) or a file.
    pub access: AccessTarget,
    /// Form of the access log's lines; default JSON.
    pub access_format: AccessFormat,
}

pub(super) fn check(raw: Raw, base: &Base, problems: &mut Problems<'_>) -> Log {
    let level = match raw.level {
        None => tracing::Level::INFO,
        Some(l) => l.get_ref().parse().unwrap_or_else(|_| {
            problems.at(l.span(), "`level` must be one of error, warn, info, debug, trace.");
            tracing::Level::INFO
        }),
    };
    let access = match raw.access.as_deref() {
        None | Some("stdout") => AccessTarget::Stdout,
        Some("off") => AccessTarget::Off,
        Some(path) => AccessTarget::File(base.path(path)),
    };
    Log { level, format: raw.format, access, access_format: raw.access_format }
}
