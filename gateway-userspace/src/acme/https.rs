//! The few HTTPS requests that an order takes: one connection each, bounded in time and size.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::store::StoreError;

/// Longest exchange with the authority.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer of the authority, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Speaks HTTPS with the authority, trusting the given roots.
pub(super) struct Https(TlsConnector);

impl Https {
    /// With the roots of a PEM file, or the public ones.
    pub(super) fn new(roots: Option<&Path>) -> Result<Self, StoreError> {
        let mut store = rustls::RootCertStore::empty();
        match roots {
            None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                let bad = |reason: String| StoreError::Unusable { file: file.to_owned(), reason };
                for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(e.to_string()))? {
                    store
                        .add(certificate.map_err(|e| bad(e.to_string()))?)
                        .map_err(|e| bad(e.to_string()))?;
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| StoreError::Unusable { file: "TLS".into(), reason: e.to_string() })?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            match tokio::time::timeout(TIMEOUT, exchange(connector, request)).await {
                Ok(Ok(response)) => Ok(BytesResponse::from(response)),
                Ok(Err(e)) => Err(Error::Other(e)),
                Err(_) => Err(Error::Str("no answer within 30 s")),
            }
        })
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    connector: TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Full<Bytes>>, Fault> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("https") {
        return Err("an ACME authority is spoken to over https only".into());
    }
    let host = uri.host().ok_or("the URL has no host")?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let socket = TcpStream::connect((name, uri.port_u16().unwrap_or(443))).await?;
    let stream = connector.connect(ServerName::try_from(name.to_owned())?, socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    if let Some(authority) = uri.authority() {
        request.headers_mut().insert(header::HOST, authority.as_str().parse()?);
    }
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    *request.uri_mut() = path.parse::<Uri>()?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
    Ok(Response::from_parts(head, Full::new(body)))
}
