//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT becomes an upgrade of HTTP/1.1 on the way to the server, and
//! the server's switch a stream both ways.

use aws_lc_rs::digest;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::h1::Tunnel;
use super::server::Phase;
use crate::pipeline::{Finishing, Worker};
use crate::respond::Reply;
use crate::wire::Body;

/// What a server appends to the key before it hashes it (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An extended CONNECT under way.
pub(super) struct Handshake {
    accept: String,
    upgrade: OnUpgrade,
}

/// Turns an extended CONNECT for a WebSocket into the request that a server of HTTP/1.1 gets; `None` for any other.
pub(super) fn begin(parts: &mut Parts, worker: &Worker) -> Option<Handshake> {
    if parts.method != Method::CONNECT
        || parts.extensions.get::<Protocol>().is_none_or(|p| p.as_str() != "websocket")
    {
        return None;
    }
    let upgrade = parts.extensions.remove::<OnUpgrade>()?;
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&worker.random().to_be_bytes());
    nonce[8..].copy_from_slice(&worker.random().to_be_bytes());
    let key = base64(&nonce);
    let accept =
        base64(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat()).as_ref());
    parts.method = Method::GET;
    let fields = &mut parts.headers;
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).ok()?);
    fields.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    Some(Handshake { accept, upgrade })
}

impl Handshake {
    /// The answer to the client. Where the server switched, the stream is carried on by a task of its own, and what
    /// is left of the request goes with it; where it answered as if nothing had been asked, the client gets 502.
    pub(super) fn end(
        self,
        reply: Reply,
        finishing: Finishing,
        phase: watch::Receiver<Phase>,
    ) -> (Reply, Option<Finishing>) {
        let Reply { status, mut headers, upgraded, connection, body } = reply;
        let Some(upgraded) = upgraded else {
            let (status, body) =
                if status.is_success() { (StatusCode::BAD_GATEWAY, Body::Empty) } else { (status, body) };
            return (Reply { status, headers, upgraded: None, connection, body }, Some(finishing));
        };
        let accepted = headers.remove(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|a| a.as_bytes() != self.accept.as_bytes()) {
            let reply = Reply {
                status: StatusCode::BAD_GATEWAY,
                headers: HeaderMap::new(),
                upgraded: None,
                connection,
                body: Body::Empty,
            };
            return (reply, Some(finishing));
        }
        let upgrade = self.upgrade;
        tokio::spawn(async move {
            if let Ok(client) = upgrade.await {
                Tunnel { client: TokioIo::new(client), upgraded, finishing, phase }.run().await;
            }
        });
        (Reply { status: StatusCode::OK, headers, upgraded: None, connection, body: Body::Empty }, None)
    }
}

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let n = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = ALPHABET[(n >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes() {
        for (bytes, expected) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes), expected);
        }
    }
}
