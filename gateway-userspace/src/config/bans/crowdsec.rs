//! `[bans.crowdsec]`: decisions of a CrowdSec local API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::{Base, Problems, Span};

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCrowdSec {
    url: Spanned<String>,
    key_file: String,
    #[serde(default)]
    interval: Option<Spanned<Span>>,
}

/// Decisions of a CrowdSec local API, as one of its bouncers in stream mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrowdSec {
    /// The local API, such as `http://127.0.0.1:8080`.
    pub url: Arc<str>,
    /// A file with the key that `cscli bouncers add` gave.
    pub key_file: PathBuf,
    /// How often news are asked for; default 10 s, 1 s to 1 h.
    pub interval: Duration,
}

pub(super) fn check(raw: RawCrowdSec, base: &Base, problems: &mut Problems<'_>) -> CrowdSec {
    let url = raw.url.get_ref().trim_end_matches('/');
    if !url.starts_with("http://") && !url.starts_with("https://") {
        problems.at(raw.url.span(), "`url` is the local API's address, such as http://127.0.0.1:8080.");
    }
    CrowdSec {
        url: url.into(),
        key_file: base.path(&raw.key_file),
        interval: super::lasting(
            raw.interval,
            Duration::from_secs(10),
            Duration::from_secs(1)..=Duration::from_hours(1),
            "`interval` is from 1s to 1h.",
            problems,
        ),
    }
}
