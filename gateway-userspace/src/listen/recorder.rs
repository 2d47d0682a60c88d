//! A socket that remembers what was read of it first, for the fingerprint of the TLS client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::ja4::MAX_HELLO_BYTES;
use crate::wire::MaybeTls;

/// Bytes as the client and we exchange them, TLS taken off.
pub type Stream = MaybeTls<TcpStream, TlsStream<Recorder>>;

/// A socket and the first bytes read of it.
#[derive(Debug)]
pub struct Recorder {
    socket: TcpStream,
    /// None: nothing is recorded any more.
    seen: Option<Vec<u8>>,
}

impl Recorder {
    /// Records from now on.
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, seen: Some(Vec::with_capacity(2048)) }
    }

    /// What was recorded; recording ends.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.seen.take().unwrap_or_default()
    }
}

impl AsyncRead for Recorder {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buf);
        if let Some(seen) = &mut this.seen {
            let new = buf.filled().get(before..).unwrap_or_default();
            // Records add a header to each fragment of the hello: twice its size is enough for any.
            let room = (2 * MAX_HELLO_BYTES).saturating_sub(seen.len());
            seen.extend_from_slice(&new[..new.len().min(room)]);
        }
        polled
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            // One record is the rule; sending costs the kernel less than writing a vector.
            [one] => Pin::new(&mut self.socket).poll_write(cx, one),
            _ => Pin::new(&mut self.socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
