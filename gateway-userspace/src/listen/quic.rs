//! QUIC for HTTP/3 (RFC 9000, 9001): the socket and the transport's bounds.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};

use super::quic_hello::{Observed, Shown};
use super::{ClientCertificate, Failure, TlsInfo, TlsNumbers};
use crate::config::edge::Http;

/// Unidirectional streams that a client may have open: control, and two of the header compression; the rest is grease.
pub const MAX_UNI_STREAMS: u32 = 8;
/// Flow-control window of a stream, in bytes.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// Flow-control window of a connection, and most bytes of responses that wait to be acknowledged.
pub const CONNECTION_WINDOW: u32 = 1 << 20;
/// Connections that wait to be looked at, and the bytes that they may have sent together.
pub const MAX_INCOMING: usize = 1024;
/// Bytes of all of them together.
pub const MAX_INCOMING_BYTES: u64 = 4 << 20;
/// Bytes of handshake messages that wait for what comes before them.
const CRYPTO_BUFFER: usize = 16 << 10;
/// What clients ask for by ALPN.
const PROTOCOL: &[u8] = b"h3";

/// Opens the UDP socket of a listener.
///
/// # Errors
/// As the system says.
pub fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The settings of a QUIC listener out of those of its TLS. Nothing is taken before the handshake is done (no 0-RTT:
/// it can be replayed); tickets are of its own, and good until the settings change.
///
/// # Errors
/// In words, when the settings don't fit QUIC.
pub fn settings(tls: &ServerConfig, http: &Http) -> Result<quinn::ServerConfig, String> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    tls.max_early_data_size = 0;
    tls.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| e.to_string())?;
    let crypto = QuicServerConfig::try_from(Arc::new(tls)).map_err(|e| e.to_string())?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(http.h2_streams as u32))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .crypto_buffer_size(CRYPTO_BUFFER)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(idle(http.idle_timeout)));
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(Observed(Arc::new(crypto))));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(u64::from(STREAM_WINDOW))
        .incoming_buffer_size_total(MAX_INCOMING_BYTES);
    Ok(config)
}

fn idle(timeout: Duration) -> IdleTimeout {
    // At most an hour: it fits.
    IdleTimeout::try_from(timeout).unwrap_or_else(|_| VarInt::from_u32(60_000).into())
}

/// What the handshake of a connection showed; it is counted in `numbers`.
pub fn info(connection: &quinn::Connection, asks_certificate: bool, numbers: &TlsNumbers) -> TlsInfo {
    let shown = connection.handshake_data().and_then(|d| d.downcast::<Shown>().ok());
    let Shown { server_name, ja4, suite, kind } = shown.map_or_else(Shown::default, |shown| *shown);
    let chain = connection.peer_identity().and_then(|i| i.downcast::<Vec<CertificateDer<'static>>>().ok());
    let client_certificate = chain.and_then(|chain| ClientCertificate::read(&chain));
    numbers.done(Some(ProtocolVersion::TLSv1_3), suite, kind, client_certificate.is_some());
    TlsInfo {
        server_name: server_name.map(|n| n.to_ascii_lowercase().into()),
        is_h2: false,
        version: "TLSv1.3",
        asks_certificate,
        client_certificate,
        ja4,
    }
}

/// What a failed handshake is counted as.
pub fn failure(error: &quinn::ConnectionError) -> Failure {
    /// An alert of TLS is a code of QUIC from here on (RFC 9001, section 4.8).
    const ALERTS: u64 = 0x100;
    match error {
        quinn::ConnectionError::TimedOut => Failure::Timeout,
        quinn::ConnectionError::TransportError(error) => match u64::from(error.code).wrapping_sub(ALERTS) {
            116 => Failure::NoCertificate,
            42..=46 | 48 => Failure::BadCertificate,
            40 | 70 | 71 | 120 => Failure::Incompatible,
            _ => Failure::Malformed,
        },
        quinn::ConnectionError::ConnectionClosed(_) => Failure::RefusedByClient,
        _ => Failure::Gone,
    }
}
