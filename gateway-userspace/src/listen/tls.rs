//! The TLS server's settings.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ServerConfig;

use super::Certificates;
use crate::config::edge::{MinVersion, Tls};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
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
    certificates: Arc<Certificates>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(SESSION_CACHE);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    // One ticket a handshake: clients rarely use the second, and it costs an encryption and bytes.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
