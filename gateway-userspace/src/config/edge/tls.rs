//! `[tls]`: certificates, versions, the handshake.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::acme::{self, Acme, RawAcme};
use super::bounds;
use crate::config::{Base, Problems, Span};

/// Most certificates.
pub const MAX_CERTIFICATES: usize = 4096;

/// `[tls]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    certificates: Vec<Spanned<RawCertificate>>,
    min_version: MinVersion,
    handshake_timeout: Option<Spanned<Span>>,
    ticket_keys_file: Option<String>,
    client_auth: ClientAuth,
    client_ca: Option<Spanned<String>>,
    acme: Option<RawAcme>,
}

/// An entry of `certificates` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCertificate {
    certificate: String,
    key_file: String,
}

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum MinVersion {
    /// TLS 1.2 with forward secrecy and AEAD only, and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether clients show a certificate (mutual TLS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    Off,
    /// One is asked for and, if shown, must be good; the upstream is told.
    Optional,
    /// Without a good one the handshake fails.
    Required,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM: the certificate, then its intermediates.
    pub certificate: PathBuf,
    /// PEM: PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
}

/// TLS for every listener that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Chosen by SNI: exact names, then wildcards, then the first of the list. Default: none, and
    /// a self-signed certificate for `localhost` is made at start (for development: browsers refuse it).
    /// At most 4,096.
    pub certificates: Vec<Certificate>,
    /// `"1.2"` (the default) or `"1.3"`.
    pub min_version: MinVersion,
    /// Keys of session tickets: lines of 64 hexadecimal digits, the newest first, shared by all nodes and read
    /// again by a reload. Default: none, and keys are random for each start.
    pub ticket_keys_file: Option<PathBuf>,
    /// Whether clients show a certificate: `off` (the default), `optional` or `required`.
    pub client_auth: ClientAuth,
    /// PEM: who signs clients' certificates. Needed with `client_auth`.
    pub client_ca: Option<PathBuf>,
    /// From accept (and after the PROXY header) to the end of the handshake; default 5 s; 100 ms to 1 min.
    pub handshake_timeout: Duration,
    /// Certificates from an ACME authority; default none.
    pub acme: Option<Acme>,
}

pub(super) fn check(raw: RawTls, base: &Base, problems: &mut Problems<'_>) -> Tls {
    if let Some(extra) = raw.certificates.get(MAX_CERTIFICATES) {
        problems.at(extra.span(), format!("at most {MAX_CERTIFICATES} certificates are possible."));
    }
    let certificates = raw
        .certificates
        .into_iter()
        .map(|c| {
            if c.get_ref().certificate.is_empty() || c.get_ref().key_file.is_empty() {
                problems
                    .at(c.span(), "a certificate needs `certificate` and `key_file`, paths of PEM files.");
            }
            let c = c.into_inner();
            Certificate { certificate: base.path(&c.certificate), key_file: base.path(&c.key_file) }
        })
        .collect();
    match &raw.client_ca {
        None if raw.client_auth != ClientAuth::Off => {
            problems.whole(
                "[tls] `client_auth` needs `client_ca`, a PEM file of those who sign clients' certificates.",
            );
        }
        Some(ca) if raw.client_auth == ClientAuth::Off => {
            problems
                .at(ca.span(), "`client_ca` has no effect without `client_auth`: set that, or leave it out.");
        }
        _ => {}
    }
    Tls {
        certificates,
        ticket_keys_file: raw.ticket_keys_file.map(|f| base.path(&f)),
        client_auth: raw.client_auth,
        client_ca: raw.client_ca.map(|f| base.path(f.get_ref())),
        min_version: raw.min_version,
        acme: acme::check(raw.acme, base, problems),
        handshake_timeout: bounds::duration(
            "handshake_timeout",
            raw.handshake_timeout,
            Duration::from_secs(5),
            Duration::from_millis(100)..=Duration::from_mins(1),
            problems,
        ),
    }
}
