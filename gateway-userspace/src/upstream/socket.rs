//! A connection to a server, with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::wire::MaybeTls;

/// Bytes as the server and we exchange them, TLS taken off.
pub type Socket = MaybeTls<TcpStream, TlsStream<TcpStream>>;

impl Socket {
    /// Where it leads.
    pub(super) fn peer(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Plain(socket) => socket.peer_addr().ok(),
            Self::Tls(tls) => tls.get_ref().0.peer_addr().ok(),
        }
    }

    /// Whether the server neither closed nor said anything. A system call only when something happened.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        match self {
            Self::Plain(socket) => {
                matches!(socket.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(tls) => {
                // Session tickets may come at any time: TLS reads them and stays pending.
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(tls.as_mut()).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }
}
