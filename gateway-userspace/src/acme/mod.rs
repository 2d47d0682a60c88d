//! Certificates from an ACME authority (RFC 8555): ordered, kept on disk, renewed before they end.
//!
//! The task writes `NAME.crt` and `NAME.key` (mode 0600) into one folder and says so; whoever serves TLS
//! reads them from there as it reads any other certificate. What the authority asks for while it
//! validates (HTTP-01, RFC 8555 section 8.3; TLS-ALPN-01, RFC 8737) lies in [`Challenges`], where the
//! listeners look it up.

mod challenges;
mod https;
mod order;
mod renewal;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use challenges::{Challenges, MAX_PENDING, TLS_ALPN_PROTOCOL};
pub use renewal::run;
pub use store::{Store, StoreError};

/// How the authority validates names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// A file under `/.well-known/acme-challenge/` on port 80.
    Http01,
    /// A certificate for the protocol `acme-tls/1` on port 443.
    TlsAlpn01,
}

/// One authority, and the certificates wanted of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// URL of the authority's directory, `https` only.
    pub directory: String,
    /// A file of PEM roots to trust for the directory instead of the public ones.
    pub roots: Option<PathBuf>,
    /// `mailto:` address for the account.
    pub contact: Option<String>,
    /// The names of each certificate; the first names its files.
    pub certificates: Vec<Vec<String>>,
    /// How names are validated.
    pub challenge: Challenge,
    /// Where account and certificates are kept.
    pub folder: PathBuf,
    /// Time after a failed attempt before the next one; doubles up to [`LONGEST_PAUSE`].
    pub retry: Duration,
}

/// Longest pause between attempts.
pub const LONGEST_PAUSE: Duration = Duration::from_hours(6);

/// Why a certificate could not be had this time.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority refused, or could not be reached.
    #[error("{step}: {source}")]
    Authority {
        /// What was being done.
        step: &'static str,
        /// The authority's or the library's reason.
        source: instant_acme::Error,
    },
    /// The authority did not accept the proof for a name.
    #[error(
        "the authority did not validate the names: the order is {0}. Is port 80 (http-01) or 443 (tls-alpn-01) of each name reachable from outside, and does it lead here?"
    )]
    NotValidated(String),
    /// The authority does not offer the configured challenge for a name.
    #[error("the authority offers no {0} challenge; choose another one in [acme] challenge")]
    NoSuchChallenge(&'static str),
    /// Roots or files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answer can't be used.
    #[error("the authority's answer can't be used: {0}")]
    Answer(String),
}

impl AcmeError {
    /// Whether the authority doesn't know the account (any more): RFC 8555 section 6.7.
    fn is_account_lost(&self) -> bool {
        const LOST: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
        let Self::Authority { source: instant_acme::Error::Api(problem), .. } = self else { return false };
        problem.r#type.as_deref() == Some(LOST)
    }
}

/// Who is told that a certificate changed on disk.
pub type Changed = Arc<dyn Fn(&str) + Send + Sync>;
