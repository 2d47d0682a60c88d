//! The TLS server's settings.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};

use super::{TicketKeys, TicketKeysError};
use crate::config::edge::{ClientAuth, MinVersion, Tls};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of ticket keys.
    #[error(transparent)]
    TicketKeys(#[from] TicketKeysError),
    /// The file of those who sign clients' certificates.
    #[error("{}: {reason}. [tls] client_ca must hold PEM certificates.", file.display())]
    ClientCa {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// rustls refuses the settings.
    #[error("the TLS settings can't be used: {0}. Check [tls].")]
    Settings(#[from] rustls::Error),
}

/// Sessions kept for resumption by id (TLS 1.2) and by ticket (TLS 1.3).
pub const SESSION_CACHE: usize = 16_384;

/// The settings of a TLS listener: suites with forward secrecy and AEAD, X25519MLKEM768 first, h2 and
/// http/1.1.
///
/// # Errors
/// When rustls refuses them.
pub fn server_config(
    tls: &Tls,
    certificates: Arc<dyn ResolvesServerCert>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let verifier = client_verifier(tls, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if tls.acme.is_some() {
        // What an authority validates names with (RFC 8737); no other client offers it.
        config.alpn_protocols.push(b"acme-tls/1".to_vec());
    }
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(SESSION_CACHE);
    config.ticketer = match &tls.ticket_keys_file {
        Some(file) => Arc::new(TicketKeys::load(file)?),
        None => rustls::crypto::aws_lc_rs::Ticketer::new()?,
    };
    // One ticket a handshake: clients rarely use the second, and it costs an encryption and bytes.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Who checks clients' certificates.
fn client_verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (Some(file), ClientAuth::Optional | ClientAuth::Required) = (&tls.client_ca, tls.client_auth) else {
        return Ok(Arc::new(NoClientAuth));
    };
    let fail = |reason: String| TlsError::ClientCa { file: file.clone(), reason };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| fail(e.to_string()))? {
        let certificate = certificate.map_err(|e| fail(e.to_string()))?;
        roots.add(certificate).map_err(|e| fail(e.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder =
        if tls.client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|e| fail(e.to_string()))
}
