//! Connecting to a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::UpstreamError;
use super::socket::Socket;
use crate::config::edge::{self, Protocol};

/// Where Debian and its kin keep the certificates of public authorities.
pub const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why an upstream can't be spoken to over TLS.
#[derive(Debug, thiserror::Error)]
#[error("upstream `{upstream}`: {}: {reason}. Check the upstream's [upstreams.tls].", file.display())]
pub struct UpstreamTlsError {
    upstream: Arc<str>,
    file: PathBuf,
    reason: String,
}

/// How the connections of one upstream are made.
pub(super) struct Connector {
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    /// The configured name; else each server's own.
    name: Option<ServerName<'static>>,
}

impl Connector {
    pub(super) fn new(upstream: &edge::Upstream) -> Result<Self, UpstreamTlsError> {
        let Some(settings) = &upstream.tls else { return Ok(Self { tls: None }) };
        let file = settings.ca.clone().unwrap_or_else(|| SYSTEM_AUTHORITIES.into());
        let fail = |file: &PathBuf, reason: String| UpstreamTlsError {
            upstream: Arc::clone(&upstream.name),
            file: file.clone(),
            reason,
        };
        let mut roots = rustls::RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(&file).map_err(|e| fail(&file, e.to_string()))?;
        // Some public authorities' certificates are not to rustls's taste: as long as any is.
        let (added, _) = roots.add_parsable_certificates(found.filter_map(Result::ok));
        if added == 0 {
            return Err(fail(&file, "it holds no usable certificate".to_owned()));
        }
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| fail(&file, e.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &settings.certificate {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_file_iter(&own.certificate)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|e| fail(&own.certificate, e.to_string()))?;
                let key = PrivateKeyDer::from_pem_file(&own.key_file)
                    .map_err(|e| fail(&own.key_file, e.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| fail(&own.certificate, e.to_string()))?
            }
        };
        config.alpn_protocols = match upstream.protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let name = settings.server_name.as_ref().and_then(|n| ServerName::try_from(n.clone()).ok());
        Ok(Self { tls: Some(Tls { connector: TlsConnector::from(Arc::new(config)), name }) })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A connection to the server at `address` (`host:port`), by one of `addresses` beginning with the `turn`th; each
    /// gets its share of `within`.
    pub(super) async fn connect(
        &self,
        address: &str,
        addresses: &[SocketAddr],
        turn: usize,
        within: Duration,
    ) -> Result<Socket, UpstreamError> {
        let socket = reach(addresses, turn, within).await?;
        let _ = socket.set_nodelay(true);
        let Some(tls) = &self.tls else { return Ok(Socket::Plain(socket)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = match &tls.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host).map_err(|_| UpstreamError::Handshake)?,
        };
        let stream = tls.connector.connect(name, socket).await.map_err(|_| UpstreamError::Handshake)?;
        Ok(Socket::Tls(Box::new(stream)))
    }
}

/// A socket to the first address that takes one.
async fn reach(addresses: &[SocketAddr], turn: usize, within: Duration) -> Result<TcpStream, UpstreamError> {
    let mut last = UpstreamError::Unresolved;
    let share = within / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for n in 0..addresses.len() {
        let Some(address) = addresses.get((turn + n) % addresses.len()) else { break };
        last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(e)) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
                return Err(UpstreamError::Exhausted);
            }
            Ok(Err(_)) => UpstreamError::Connect,
            Err(_) => UpstreamError::ConnectTimeout,
        };
    }
    Err(last)
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("is_tls", &self.is_tls()).finish()
    }
}
