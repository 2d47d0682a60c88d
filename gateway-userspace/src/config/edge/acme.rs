//! `[tls.acme]`: certificates from an ACME authority.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::{Base, Problems};

/// Most certificates of an authority.
pub const MAX_CERTIFICATES: usize = 256;
/// Most names of one certificate (what public authorities take).
pub const MAX_NAMES: usize = 100;
/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAcme {
    directory: Option<Spanned<String>>,
    roots: Option<String>,
    contact: Option<Spanned<String>>,
    #[serde(default)]
    challenge: Challenge,
    folder: Option<String>,
    certificates: Spanned<Vec<Vec<String>>>,
}

/// How names are validated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Challenge {
    /// A file on port 80 (RFC 8555 section 8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// A handshake on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// Certificates from an ACME authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The authority's directory; default Let's Encrypt. Naming one is agreeing to its terms.
    pub directory: String,
    /// PEM roots to trust for the directory; default: the public ones.
    pub roots: Option<PathBuf>,
    /// `mailto:` address for the account; default none.
    pub contact: Option<String>,
    /// `http-01` (the default) or `tls-alpn-01`.
    pub challenge: Challenge,
    /// Where account and certificates are kept; default `/var/lib/gateway/acme`.
    pub folder: PathBuf,
    /// The names of each certificate; 1 to 256 certificates of 1 to 100 names.
    pub certificates: Vec<Vec<String>>,
}

pub(super) fn check(raw: Option<RawAcme>, base: &Base, problems: &mut Problems<'_>) -> Option<Acme> {
    let raw = raw?;
    let names = raw.certificates.get_ref();
    let plain = |n: &String| {
        !n.is_empty()
            && n.len() <= 253
            && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    };
    let good = (1..=MAX_CERTIFICATES).contains(&names.len())
        && names.iter().all(|c| (1..=MAX_NAMES).contains(&c.len()) && c.iter().all(plain));
    if !good {
        problems.at(
            raw.certificates.span(),
            format!(
                "`certificates` lists the names of 1 to {MAX_CERTIFICATES} certificates, such as \
                 [[\"example.com\", \"www.example.com\"]]: lower-case names without wildcards, 1 to {MAX_NAMES} each."
            ),
        );
    }
    let directory = raw.directory.map_or_else(
        || LETS_ENCRYPT.to_owned(),
        |d| {
            if !d.get_ref().starts_with("https://") {
                problems.at(d.span(), "`directory` must be an https URL.");
            }
            d.into_inner()
        },
    );
    let contact = raw.contact.map(|c| {
        if !c.get_ref().starts_with("mailto:") {
            problems.at(c.span(), "`contact` must be such as mailto:admin@example.com.");
        }
        c.into_inner()
    });
    Some(Acme {
        directory,
        roots: raw.roots.map(|r| base.path(&r)),
        contact,
        challenge: raw.challenge,
        folder: base.path(raw.folder.as_deref().unwrap_or("/var/lib/gateway/acme")),
        certificates: raw.certificates.into_inner(),
    })
}
