//! From an accepted socket to a connection that can speak HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::server::ServerConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::ja4::{self, Peek};
use super::{ClientCertificate, Failure, Recorder, Stream, TlsNumbers};
use crate::client::proxy_protocol::{self, ProxyHeader, ProxyHeaderError, V1_MAX, V2_FIXED, V2_SIGNATURE};
use crate::config::edge::{ClientAuth, Listener, ProxyProtocol};

/// Who is at the other end of a connection, and how it came in.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's peer.
    pub socket: SocketAddr,
    /// The client that a required PROXY header names.
    pub relayed: Option<SocketAddr>,
    /// Our end, as the PROXY header says or the socket.
    pub local: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// What the handshake showed; `None` without TLS.
    pub tls: Option<TlsInfo>,
    /// Who the connection is from, as text: upstreams are told of it with each request.
    text: HeaderValue,
}

impl Peer {
    /// `relayed` is the client that a PROXY header named.
    pub fn new(
        socket: SocketAddr,
        relayed: Option<SocketAddr>,
        local: SocketAddr,
        listener: Arc<str>,
        tls: Option<TlsInfo>,
    ) -> Self {
        let from = relayed.unwrap_or(socket).ip().to_canonical();
        // The text of an address is always a value.
        let text = HeaderValue::try_from(from.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { socket, relayed, local, listener, tls, text }
    }

    /// Who the connection is from: the client that the PROXY header named, else the socket's peer.
    pub fn from(&self) -> IpAddr {
        self.relayed.unwrap_or(self.socket).ip().to_canonical()
    }

    /// [`Peer::from`] as text.
    pub fn from_text(&self) -> &HeaderValue {
        &self.text
    }
}

/// What a TLS handshake showed.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// SNI, in lower case.
    pub server_name: Option<Arc<str>>,
    /// Whether HTTP/2 was agreed on.
    pub is_h2: bool,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Whether the listener asks clients for certificates.
    pub asks_certificate: bool,
    /// The client's certificate, where one was asked for and shown. It was verified.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// The fingerprint of the client's hello, where it is taken.
    pub ja4: Option<Arc<str>>,
}

/// Why a connection was not established.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Not in time.
    #[error("the connection was not established in time")]
    Timeout,
    /// A PROXY header from someone who is not a trusted proxy.
    #[error("the listener takes connections of trusted proxies only")]
    Untrusted,
    /// No PROXY header, or a bad one.
    #[error(transparent)]
    Proxy(#[from] ProxyHeaderError),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

impl AcceptError {
    /// What it is counted as.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Timeout => Failure::Timeout,
            Self::Untrusted | Self::Proxy(_) => Failure::Proxy,
            Self::Handshake(error) => Failure::of(error),
            Self::Io(_) => Failure::Gone,
        }
    }
}

/// Establishes the connections of one listener.
#[derive(Debug)]
pub struct Acceptor {
    /// The listener's name.
    pub name: Arc<str>,
    /// TLS settings, swapped by reloads; `None` for plain HTTP.
    pub tls: Option<Arc<ArcSwap<ServerConfig>>>,
    /// Shared by all listeners.
    pub numbers: Arc<TlsNumbers>,
    proxy_protocol: ProxyProtocol,
    asks_certificate: bool,
    timeout: Duration,
}

impl Acceptor {
    /// Establishes connections of `listener` with `tls`; `timeout` is for the PROXY header and the handshake together.
    pub fn new(
        listener: &Listener,
        tls: Option<Arc<ArcSwap<ServerConfig>>>,
        timeout: Duration,
        numbers: Arc<TlsNumbers>,
    ) -> Self {
        let name = Arc::clone(&listener.name);
        let asks_certificate = listener.clients.auth != ClientAuth::Off;
        let proxy_protocol = listener.proxy_protocol;
        Self { name, tls, numbers, proxy_protocol, asks_certificate, timeout }
    }

    /// How long a handshake may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether clients are asked for certificates.
    pub fn asks_certificate(&self) -> bool {
        self.asks_certificate
    }

    /// Reads the PROXY header where one is required and does the handshake where there is TLS.
    ///
    /// # Errors
    /// Why not; the socket is closed.
    pub async fn establish(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        trusts: impl Fn(IpAddr) -> bool,
    ) -> Result<(Stream, Peer), AcceptError> {
        if self.tls.is_none() && self.proxy_protocol == ProxyProtocol::Off {
            let peer = self.peer(peer, None, socket.local_addr()?, None);
            return Ok((Stream::Plain(socket), peer));
        }
        let work = self.negotiate(socket, peer, trusts);
        tokio::time::timeout(self.timeout, work).await.map_err(|_| AcceptError::Timeout)?
    }

    async fn negotiate(
        &self,
        mut socket: TcpStream,
        peer: SocketAddr,
        trusts: impl Fn(IpAddr) -> bool,
    ) -> Result<(Stream, Peer), AcceptError> {
        let mut local = socket.local_addr()?;
        let mut relayed = None;
        if self.proxy_protocol == ProxyProtocol::Required {
            if !trusts(peer.ip()) {
                return Err(AcceptError::Untrusted);
            }
            if let ProxyHeader::Relayed { source, destination } = read_proxy_header(&mut socket).await? {
                relayed = Some(source);
                local = destination;
            }
        }
        let Some(tls) = &self.tls else {
            return Ok((Stream::Plain(socket), self.peer(peer, relayed, local, None)));
        };
        let acceptor = TlsAcceptor::from(tls.load_full());
        let mut stream = acceptor.accept(Recorder::new(socket)).await.map_err(AcceptError::Handshake)?;
        let hello = stream.get_mut().0.take();
        let session = stream.get_ref().1;
        let info = TlsInfo {
            server_name: session.server_name().map(|n| n.to_ascii_lowercase().into()),
            is_h2: session.alpn_protocol() == Some(b"h2"),
            asks_certificate: self.asks_certificate,
            client_certificate: session.peer_certificates().and_then(ClientCertificate::read),
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            ja4: match ja4::ja4(&hello, false) {
                Peek::Fingerprint(fingerprint) => Some(fingerprint.into()),
                Peek::More | Peek::Other => None,
            },
        };
        self.numbers.done(
            session.protocol_version(),
            session.negotiated_cipher_suite().map(|s| s.suite()),
            session.handshake_kind(),
            info.client_certificate.is_some(),
        );
        Ok((Stream::Tls(Box::new(stream)), self.peer(peer, relayed, local, Some(info))))
    }

    fn peer(
        &self,
        socket: SocketAddr,
        relayed: Option<SocketAddr>,
        local: SocketAddr,
        tls: Option<TlsInfo>,
    ) -> Peer {
        Peer::new(socket, relayed, local, Arc::clone(&self.name), tls)
    }
}

/// Reads exactly the header, so that what follows it stays in the socket for TLS or HTTP.
async fn read_proxy_header(socket: &mut TcpStream) -> Result<ProxyHeader, AcceptError> {
    let mut fixed = [0; V2_FIXED];
    let (signature, rest) = fixed.split_at_mut(V2_SIGNATURE.len());
    socket.read_exact(signature).await?;
    if *signature == V2_SIGNATURE {
        socket.read_exact(rest).await?;
        let mut payload = vec![0; proxy_protocol::v2_payload_len(&fixed)?];
        socket.read_exact(&mut payload).await?;
        return Ok(proxy_protocol::parse_v2(&fixed, &payload)?);
    }
    if !signature.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::NotProxy.into());
    }
    let mut line = [0; V1_MAX];
    let mut len = signature.len();
    line[..len].copy_from_slice(signature);
    while line[len - 1] != b'\n' {
        if len == V1_MAX {
            return Err(ProxyHeaderError::TooLong.into());
        }
        // Look first, then take: bytes behind the line are not ours.
        let seen = socket.peek(&mut line[len..]).await?;
        if seen == 0 {
            return Err(AcceptError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let take = memchr::memchr(b'\n', &line[len..len + seen]).map_or(seen, |at| at + 1);
        socket.read_exact(&mut line[len..len + take]).await?;
        len += take;
    }
    Ok(proxy_protocol::parse_v1(&line[..len])?)
}
