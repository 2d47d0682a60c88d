//! A small HTTP client for lists, neighbours and authorities: one request a connection, bounded in size and time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest time for one exchange, where no other is given.
pub const TIMEOUT: Duration = Duration::from_mins(1);
/// Most redirections that are followed, none of them from https to http.
const MAX_REDIRECTS: usize = 3;

/// An exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none, or of another scheme.
    #[error("`{0}` is no http:// or https:// address")]
    Url(String),
    /// No connection.
    #[error("{host} can't be reached: {error}")]
    Connect {
        /// Whom.
        host: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The peer broke HTTP, or the connection broke.
    #[error("the exchange with {host} broke: {error}")]
    Broken {
        /// With whom.
        host: String,
        /// What happened.
        error: String,
    },
    /// More than was allowed.
    #[error("the answer of {host} is larger than {max_bytes} bytes")]
    TooLarge {
        /// Whose.
        host: String,
        /// The bound.
        max_bytes: u64,
    },
    /// It took too long.
    #[error("{0} did not answer in time")]
    TimedOut(String),
    /// Round and round, or to a place that is not safe.
    #[error("{0} redirects too often, or from https to http")]
    Redirects(String),
}

/// A certificate or key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}. Name a PEM file that holds what is meant.")]
pub struct TlsFileError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Makes requests.
#[derive(Clone)]
pub struct Client {
    tls: tokio_rustls::TlsConnector,
    timeout: Duration,
}

/// A certificate to show, in PEM.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The leaf and what vouches for it.
    pub certificate_file: &'a Path,
    /// Its key.
    pub private_key_file: &'a Path,
}

impl Client {
    /// A client that trusts Mozilla's roots.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults.
    pub fn new() -> Result<Self, rustls::Error> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Ok(Self { tls: Arc::new(client_config(roots)?.with_no_client_auth()).into(), timeout: TIMEOUT })
    }

    /// A client that trusts the authorities of a PEM file, or Mozilla's, and shows a certificate where it has one.
    ///
    /// # Errors
    /// A file can't be read or holds nothing of use.
    pub fn with(ca_file: Option<&Path>, identity: Option<Shown<'_>>) -> Result<Self, TlsFileError> {
        let bad = |file: &Path, error: &dyn std::fmt::Display| TlsFileError {
            file: file.to_owned(),
            reason: error.to_string(),
        };
        let mut roots = rustls::RootCertStore::empty();
        match ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(file, &e))? {
                    roots.add(certificate.map_err(|e| bad(file, &e))?).map_err(|e| bad(file, &e))?;
                }
            }
        }
        let whole = Path::new("TLS");
        let config = client_config(roots).map_err(|e| bad(whole, &e))?;
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Shown { certificate_file, private_key_file }) => {
                let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate_file)
                    .and_then(Iterator::collect)
                    .map_err(|e| bad(certificate_file, &e))?;
                let key =
                    PrivateKeyDer::from_pem_file(private_key_file).map_err(|e| bad(private_key_file, &e))?;
                config.with_client_auth_cert(chain, key).map_err(|e| bad(certificate_file, &e))?
            }
        };
        Ok(Self { tls: Arc::new(config).into(), timeout: TIMEOUT })
    }

    /// The same with another bound on the time of one exchange.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// GETs an address, redirections followed.
    ///
    /// # Errors
    /// See [`HttpError`]; a status is no error.
    pub async fn get(&self, url: &str, headers: &HeaderMap, max_bytes: u64) -> Result<Answer, HttpError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(Method::GET, &url, headers, Bytes::new(), max_bytes).await?;
            let location = answer.headers.get(http::header::LOCATION).and_then(|l| l.to_str().ok());
            let Some(location) = location.filter(|_| answer.status.is_redirection()) else {
                return Ok(answer);
            };
            if !location.starts_with("https://") {
                break;
            }
            location.clone_into(&mut url);
        }
        Err(HttpError::Redirects(url))
    }

    /// Makes one request.
    ///
    /// # Errors
    /// See [`HttpError`]; a status is no error.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &HeaderMap,
        body: Bytes,
        max_bytes: u64,
    ) -> Result<Answer, HttpError> {
        let uri: Uri = url.parse().map_err(|_| HttpError::Url(url.to_owned()))?;
        let host = uri.host().ok_or_else(|| HttpError::Url(url.to_owned()))?.to_owned();
        let exchange = self.exchange(method, &uri, &host, headers, body, max_bytes);
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(HttpError::TimedOut(host.clone())))
    }

    async fn exchange(
        &self,
        method: Method,
        uri: &Uri,
        host: &str,
        headers: &HeaderMap,
        body: Bytes,
        max_bytes: u64,
    ) -> Result<Answer, HttpError> {
        let connect = |error| HttpError::Connect { host: host.to_owned(), error };
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(HttpError::Url(uri.to_string())),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = TcpStream::connect((bare, port)).await.map_err(connect)?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", |p| p.as_str()))
            .header(http::header::HOST, uri.authority().map_or(host, |a| a.as_str()))
            .header(http::header::USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| HttpError::Broken { host: host.to_owned(), error: error.to_string() })?;
        for (name, value) in headers {
            request.headers_mut().insert(name, value.clone());
        }
        if secure {
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| HttpError::Url(uri.to_string()))?;
            let tls = self.tls.connect(name, tcp).await.map_err(connect)?;
            converse(tls, request, host, max_bytes).await
        } else {
            converse(tcp, request, host, max_bytes).await
        }
    }
}

type Trusting = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn client_config(roots: rustls::RootCertStore) -> Result<Trusting, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots))
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    host: &str,
    max_bytes: u64,
) -> Result<Answer, HttpError> {
    let broken = |error: hyper::Error| HttpError::Broken { host: host.to_owned(), error: error.to_string() };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, max_bytes as usize).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            HttpError::TooLarge { host: host.to_owned(), max_bytes }
        } else {
            HttpError::Broken { host: host.to_owned(), error: error.to_string() }
        }
    })?;
    connection.abort();
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
}
