//! The TLS server's settings.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};

use super::{ClientAuthority, TicketKeys, TicketKeysError};
use crate::config::edge::{ClientAuth, ClientCertificates, MinVersion, Tls};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of ticket keys.
    #[error(transparent)]
    TicketKeys(#[from] TicketKeysError),
    /// The file of those who sign clients' certificates.
    #[error("{}: {reason}. `client_ca` must hold PEM certificates.", file.display())]
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

/// The settings of TLS listeners that ask clients for the same: suites with forward secrecy and AEAD, X25519MLKEM768 first, h2 and
/// http/1.1.
///
/// # Errors
/// When rustls refuses them.
pub fn server_config(
    tls: &Tls,
    clients: &ClientCertificates,
    certificates: Arc<dyn ResolvesServerCert>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let (verifier, audience) = client_verifier(clients, &provider)?;
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
        Some(file) => Arc::new(TicketKeys::load(file, audience)?),
        None => rustls::crypto::aws_lc_rs::Ticketer::new()?,
    };
    // Our order of suites: a client of TLS 1.2 can't choose a weaker one than it must.
    config.ignore_client_order = true;
    // One ticket a handshake: clients rarely use the second, and it costs an encryption and bytes.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Who checks clients' certificates, and a name for what a client of it has shown. A session resumes without being
/// checked again: so a ticket is good only where the same was asked for.
fn client_verifier(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, [u8; 32]), TlsError> {
    let (Some(file), ClientAuth::Optional | ClientAuth::Required) = (&clients.ca, clients.auth) else {
        return Ok((Arc::new(NoClientAuth), [0; 32]));
    };
    let authority = ClientAuthority::load(file, provider)?;
    let mut audience = authority.id;
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&authority.roots), Arc::clone(provider));
    let builder = if clients.auth == ClientAuth::Optional {
        audience[0] ^= 1;
        builder.allow_unauthenticated()
    } else {
        builder
    };
    let fail = |e: rustls::server::VerifierBuilderError| TlsError::ClientCa {
        file: file.clone(),
        reason: e.to_string(),
    };
    Ok((builder.build().map_err(fail)?, audience))
}
