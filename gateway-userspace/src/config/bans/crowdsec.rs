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
    #[serde(default)]
    key_file: Option<String>,
    #[serde(default)]
    ca_file: Option<String>,
    #[serde(default)]
    certificate_file: Option<String>,
    #[serde(default)]
    private_key_file: Option<String>,
    #[serde(default)]
    interval: Option<Spanned<Span>>,
    #[serde(default)]
    metrics_interval: Option<Spanned<Span>>,
    #[serde(default)]
    report: Option<RawReport>,
}

/// `[bans.crowdsec.report]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReport {
    machine: String,
    #[serde(default)]
    password_file: Option<String>,
}

/// Our decisions told to the local API, as one of its machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The machine's name, from `cscli machines add`.
    pub machine: Arc<str>,
    /// A file with its password; none: the client certificate is enough.
    pub password_file: Option<PathBuf>,
}

/// A client certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM, the leaf first.
    pub certificate_file: PathBuf,
    /// PEM.
    pub private_key_file: PathBuf,
}

/// Decisions of a CrowdSec local API, as one of its bouncers in stream mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrowdSec {
    /// The local API, such as `http://127.0.0.1:8080`.
    pub url: Arc<str>,
    /// A file with the key that `cscli bouncers add` gave; none: the client certificate is enough.
    pub key_file: Option<PathBuf>,
    /// PEM of the authorities whose certificate the API may have; default: Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that the API knows us by (mutual TLS).
    pub identity: Option<Identity>,
    /// How often news are asked for; default 10 s, 1 s to 1 h.
    pub interval: Duration,
    /// How often usage metrics are sent; default 15 min, 1 s to 1 d; 0: never.
    pub metrics_interval: Option<Duration>,
    /// Whether our decisions are told; default not.
    pub report: Option<Report>,
}

pub(super) fn check(raw: RawCrowdSec, base: &Base, problems: &mut Problems<'_>) -> CrowdSec {
    let url = raw.url.get_ref().trim_end_matches('/');
    if !url.starts_with("http://") && !url.starts_with("https://") {
        problems.at(raw.url.span(), "`url` is the local API's address, such as http://127.0.0.1:8080.");
    }
    let identity = match (raw.certificate_file, raw.private_key_file) {
        (Some(certificate), Some(key)) => {
            Some(Identity { certificate_file: base.path(&certificate), private_key_file: base.path(&key) })
        }
        (None, None) => None,
        _ => {
            problems
                .at(raw.url.span(), "`certificate_file` and `private_key_file` belong together: name both.");
            None
        }
    };
    if identity.is_some() && !url.starts_with("https://") {
        problems.at(raw.url.span(), "a client certificate is shown over https:// only.");
    }
    if identity.is_none() && raw.key_file.is_none() {
        problems.at(
            raw.url.span(),
            "name a `key_file` (`cscli bouncers add gateway`), or a `certificate_file` with its `private_key_file`.",
        );
    }
    if let Some(report) = &raw.report
        && (report.machine.is_empty()
            || report.machine.len() > 64
            || (report.password_file.is_none() && identity.is_none()))
    {
        problems.at(
            raw.url.span(),
            "`report` needs the `machine` of `cscli machines add` (1 to 64 characters) and its `password_file`, or a client certificate.",
        );
    }
    let metrics_interval = super::lasting(
        raw.metrics_interval,
        Duration::from_mins(15),
        Duration::ZERO..=Duration::from_hours(24),
        "`metrics_interval` is from 1s to 1d, or 0s for never.",
        problems,
    );
    CrowdSec {
        url: url.into(),
        key_file: raw.key_file.map(|file| base.path(&file)),
        ca_file: raw.ca_file.map(|file| base.path(&file)),
        identity,
        metrics_interval: (!metrics_interval.is_zero()).then_some(metrics_interval),
        report: raw.report.map(|report| Report {
            machine: report.machine.into(),
            password_file: report.password_file.map(|file| base.path(&file)),
        }),
        interval: super::lasting(
            raw.interval,
            Duration::from_secs(10),
            Duration::from_secs(1)..=Duration::from_hours(1),
            "`interval` is from 1s to 1h.",
            problems,
        ),
    }
}
