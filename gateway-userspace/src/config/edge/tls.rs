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
    client_headers: RawClientHeaders,
    watch: Option<bool>,
    acme: Option<RawAcme>,
}

/// An entry of `certificates` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCertificate {
    certificate: String,
    key_file: String,
    ocsp_file: Option<String>,
}

/// `[tls.client_headers]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawClientHeaders {
    verify: Option<Spanned<String>>,
    subject: Option<Spanned<String>>,
    issuer: Option<Spanned<String>>,
    names: Option<Spanned<String>>,
    sha256: Option<Spanned<String>>,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
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
    /// DER: the authority's OCSP response, stapled to the handshake; default none.
    pub ocsp_file: Option<PathBuf>,
}

/// Whether clients of a listener show a certificate, and who may have signed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ClientCertificates {
    /// `off` (the default), `optional` or `required`.
    pub auth: ClientAuth,
    /// PEM: who signs clients' certificates; set unless `auth` is off.
    pub ca: Option<PathBuf>,
}

/// The fields by which upstreams learn of a client's certificate, in lower case. Empty: that field is not sent.
/// What a client sends under these names is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHeaders {
    /// `SUCCESS` or `NONE`; default `x-ssl-client-verify`.
    pub verify: String,
    /// The subject; default `x-ssl-client-s-dn`.
    pub subject: String,
    /// The issuer; default `x-ssl-client-i-dn`.
    pub issuer: String,
    /// The alternative names; default `x-ssl-client-san`.
    pub names: String,
    /// The certificate's SHA-256; default `x-ssl-client-sha256`.
    pub sha256: String,
}

impl ClientHeaders {
    /// All of the names.
    pub fn all(&self) -> [&str; 5] {
        [&self.verify, &self.subject, &self.issuer, &self.names, &self.sha256]
    }
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
    /// Whether clients show a certificate, for listeners that don't say it themselves.
    pub clients: ClientCertificates,
    /// How upstreams learn of a client's certificate.
    pub client_headers: ClientHeaders,
    /// Whether changed certificates, keys and staples are taken over without being told; default true.
    pub watch: bool,
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
            Certificate {
                certificate: base.path(&c.certificate),
                key_file: base.path(&c.key_file),
                ocsp_file: c.ocsp_file.map(|f| base.path(&f)),
            }
        })
        .collect();
    if raw.client_auth != ClientAuth::Off && raw.client_ca.is_none() {
        problems.whole(
            "[tls] `client_auth` needs `client_ca`, a PEM file of those who sign clients' certificates.",
        );
    }
    Tls {
        certificates,
        ticket_keys_file: raw.ticket_keys_file.map(|f| base.path(&f)),
        clients: ClientCertificates {
            auth: raw.client_auth,
            ca: raw.client_ca.map(|f| base.path(f.get_ref())),
        },
        client_headers: client_headers(raw.client_headers, problems),
        watch: raw.watch.unwrap_or(true),
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

fn client_headers(raw: RawClientHeaders, problems: &mut Problems<'_>) -> ClientHeaders {
    let mut name = |written: Option<Spanned<String>>, default: &str| match written {
        None => default.to_owned(),
        Some(name) => {
            let text = name.get_ref().to_ascii_lowercase();
            // A field by which requests are framed or routed would be removed from every request.
            let is_own = text.starts_with("x-") || text.starts_with("ssl-") || text.starts_with("client-");
            if !text.is_empty() && (text.parse::<::http::HeaderName>().is_err() || !is_own) {
                problems.at(
                    name.span(),
                    "a field of `client_headers` starts with `x-`, `ssl-` or `client-`, or is \"\" for none.",
                );
            }
            text
        }
    };
    ClientHeaders {
        verify: name(raw.verify, "x-ssl-client-verify"),
        subject: name(raw.subject, "x-ssl-client-s-dn"),
        issuer: name(raw.issuer, "x-ssl-client-i-dn"),
        names: name(raw.names, "x-ssl-client-san"),
        sha256: name(raw.sha256, "x-ssl-client-sha256"),
    }
}
