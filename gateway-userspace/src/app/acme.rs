//! Certificates from an authority: which files they are, the task that keeps them fresh, and how the
//! listeners answer while the authority validates.

use std::sync::Arc;
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::parts::Running;
use crate::acme::{self, Challenges, Settings, Store, TLS_ALPN_PROTOCOL};
use crate::config::edge::{Acme, AcmeChallenge, Certificate, Tls};
use crate::listen::Certificates;

/// Pause after the first failed attempt.
const RETRY: Duration = Duration::from_mins(1);

/// The configured certificates, and those of the authority that are on disk by now.
pub fn certificates(tls: &Tls) -> Vec<Certificate> {
    let mut all = tls.certificates.clone();
    if let Some(acme) = &tls.acme
        && let Ok(store) = Store::open(&acme.folder)
    {
        for names in &acme.certificates {
            let (certificate, key_file) = store.paths(names.first().map_or("", String::as_str));
            if certificate.exists() && key_file.exists() {
                all.push(Certificate { certificate, key_file, ocsp_file: None });
            }
        }
    }
    all
}

/// Starts the task, where an authority is configured.
pub fn start(running: &Arc<Running>) {
    let Some(acme) = running.config.edge.tls.acme.clone() else { return };
    let challenges = Arc::clone(&running.challenges);
    let running = Arc::clone(running);
    let changed: acme::Changed = Arc::new(move |name| match running.reload_certificates() {
        Ok(()) => tracing::info!(certificate = name, "certificate in force"),
        Err(e) => tracing::error!("a certificate of the authority can't be used: {e}"),
    });
    tokio::spawn(acme::run(settings(acme), challenges, changed));
}

fn settings(acme: Acme) -> Settings {
    Settings {
        directory: acme.directory,
        roots: acme.roots,
        contact: acme.contact,
        certificates: acme.certificates,
        challenge: match acme.challenge {
            AcmeChallenge::Http01 => acme::Challenge::Http01,
            AcmeChallenge::TlsAlpn01 => acme::Challenge::TlsAlpn01,
        },
        folder: acme.folder,
        retry: RETRY,
    }
}

/// Answers handshakes: the authority's own with its proof, all others with the certificate of the name.
#[derive(Debug)]
pub struct Resolver {
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
}

impl Resolver {
    /// A resolver over both.
    pub fn new(certificates: Arc<Certificates>, challenges: Arc<Challenges>) -> Self {
        Self { certificates, challenges }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 section 3: the authority offers this protocol and no other.
        let mut offered = hello.alpn().into_iter().flatten();
        if offered.next() == Some(TLS_ALPN_PROTOCOL) && offered.next().is_none() {
            return self.challenges.tls_alpn_01(hello.server_name()?);
        }
        self.certificates.resolve(hello)
    }
}
