//! What a QUIC client says in its hello, and what is agreed on. The TLS beneath QUIC shows neither: so this stands between
//! it and the transport, and reads the messages that pass.

use std::any::Any;
use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn::{ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::{CipherSuite, HandshakeKind};

use super::ja4::{self, MAX_HELLO_BYTES, Peek};

/// What a handshake showed: what [`quinn::Connection::handshake_data`] gives here.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// SNI as sent.
    pub(super) server_name: Option<String>,
    /// The fingerprint of the first hello.
    pub(super) ja4: Option<Arc<str>>,
    /// The suite of our own hello.
    pub(super) suite: Option<CipherSuite>,
    /// Whether it was a resumption, and whether the client had to send a second hello.
    pub(super) kind: Option<HandshakeKind>,
}

/// TLS settings whose sessions are read along.
pub(super) struct Observed(pub(super) Arc<QuicServerConfig>);

impl ServerConfig for Observed {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let inner = Arc::clone(&self.0).start_session(version, params);
        Box::new(Reading { inner, hello: Some(Vec::new()), shown: Shown::default() })
    }
}

struct Reading {
    inner: Box<dyn Session>,
    /// The client's hello as far as it has come; none once it was looked at.
    hello: Option<Vec<u8>>,
    shown: Shown,
}

impl Reading {
    fn hear(&mut self, bytes: &[u8]) {
        let Some(hello) = &mut self.hello else { return };
        let room = (MAX_HELLO_BYTES + 4).saturating_sub(hello.len());
        hello.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match ja4::ja4_quic(hello, false) {
            Peek::More => return,
            Peek::Fingerprint(fingerprint) => self.shown.ja4 = Some(fingerprint.into()),
            Peek::Other => {}
        }
        self.hello = None;
    }

    fn say(&mut self, bytes: &[u8]) {
        let Some((suite, is_resumed)) = server_hello(bytes) else { return };
        let is_second = self.shown.suite.replace(suite).is_some();
        self.shown.kind = Some(match (is_resumed, is_second) {
            (true, _) => HandshakeKind::Resumed,
            (false, true) => HandshakeKind::FullWithHelloRetryRequest,
            (false, false) => HandshakeKind::Full,
        });
    }
}

/// Suite of a ServerHello, and whether it takes up a session (RFC 8446, section 4.1.3); `None` for other messages.
fn server_hello(bytes: &[u8]) -> Option<(CipherSuite, bool)> {
    const SERVER_HELLO: u8 = 2;
    const PRE_SHARED_KEY: u16 = 41;
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if bytes.first() != Some(&SERVER_HELLO) {
        return None;
    }
    // Type and length, version, random; then the session's id with its length.
    let at = 4 + 2 + 32;
    let at = at + 1 + usize::from(*bytes.get(at)?);
    let suite = number(at)?;
    // Suite and compression; then the extensions with their length.
    let mut at = at + 3;
    let end = at + 2 + usize::from(number(at)?);
    let bytes = bytes.get(..end)?;
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    at += 2;
    let mut is_resumed = false;
    while at < end {
        is_resumed |= number(at)? == PRE_SHARED_KEY;
        at += 4 + usize::from(number(at + 2)?);
    }
    Some((CipherSuite::from(suite), is_resumed))
}

impl Session for Reading {
    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.hear(buf);
        self.inner.read_handshake(buf)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let before = buf.len();
        let keys = self.inner.write_handshake(buf);
        self.say(buf.get(before..).unwrap_or_default());
        keys
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let data = self.inner.handshake_data()?.downcast::<HandshakeData>().ok()?;
        Some(Box::new(Shown { server_name: data.server_name, ..self.shown.clone() }))
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_hello_is_read_at_any_cut() {
        for (extensions, is_resumed) in
            [(&[0, 43, 0, 2, 3, 4][..], false), (&[0, 43, 0, 2, 3, 4, 0, 41, 0, 2, 0, 0], true), (&[], false)]
        {
            let mut hello = vec![2, 0, 0, 0, 3, 3];
            hello.extend([7; 32]);
            hello.extend([2, 9, 9, 0x13, 0x02, 0, 0, extensions.len() as u8]);
            hello.extend(extensions);
            let whole = server_hello(&hello);
            assert_eq!(whole, Some((CipherSuite::TLS13_AES_256_GCM_SHA384, is_resumed)));
            for cut in 0..hello.len() {
                assert_eq!(server_hello(&hello[..cut]), None, "{cut}");
            }
        }
        assert_eq!(server_hello(&[11, 0, 0, 0]), None);
    }
}
