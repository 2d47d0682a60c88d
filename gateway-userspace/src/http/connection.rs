//! One connection, from its first byte to its last.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::server::{Phase, Shared};
use super::{h1, h2};
use crate::bans::OffenceKind;
use crate::listen::{AcceptError, Stream};
use crate::pipeline::Worker;

pub(super) async fn serve(
    listener: usize,
    socket: TcpStream,
    peer: SocketAddr,
    is_shed: bool,
    shared: &Arc<Shared>,
    worker: &Arc<Worker>,
    phase: watch::Receiver<Phase>,
) {
    let Some((bound, acceptor)) = shared.listeners.get(listener) else { return };
    let _ = socket.set_nodelay(true);
    let site = shared.pipeline.site();
    // What a connection needs for a while only is on the heap while it needs it: the task is as large as its largest state
    // for as long as it lives, and most connections are idle most of the time.
    let established = Box::pin(acceptor.establish(socket, peer, |addr| site.trust.trusts(addr))).await;
    let (stream, peer) = match established {
        Ok(established) => established,
        Err(error) => {
            let failure = error.failure();
            shared.numbers.handshake_failed();
            acceptor.numbers.failed(failure);
            // One who isn't let in by the list of proxies is not at fault for that.
            if failure.is_offence() && !matches!(error, AcceptError::Untrusted) {
                shared.pipeline.connection_offended(OffenceKind::Handshake, peer.ip(), &acceptor.name);
            }
            tracing::debug!(%peer, listener = %acceptor.name, "{error}");
            return;
        }
    };
    let context = h1::Context {
        shared: Arc::clone(shared),
        worker: Arc::clone(worker),
        peer: Arc::new(peer),
        redirect: bound.listener.redirect_to_https,
        alt_svc: bound.listener.http3.then(|| alt_svc(bound.local.port())),
        is_shed,
        phase,
    };
    if context.peer.tls.as_ref().is_some_and(|tls| tls.is_h2) {
        shared.numbers.h2_opened();
        Box::pin(h2::serve(stream, bytes::Bytes::new(), context, &site.http)).await;
        return;
    }
    shared.numbers.h1_opened();
    match h1::serve(stream, context).await {
        h1::End::Closed => {}
        h1::End::Http2(stream, read, context) => {
            shared.numbers.h2_opened();
            Box::pin(h2::serve(*stream, read, context, &site.http)).await;
        }
        h1::End::Upgraded(tunnel) => Box::pin(tunnel.run()).await,
    }
}

/// The stream beneath an HTTP/1.1 connection that became something else.
pub(super) type BoxedStream = Box<Stream>;

/// HTTP/3 on this port, for a day.
fn alt_svc(port: u16) -> http::HeaderValue {
    let text = format!("h3=\":{port}\"; ma=86400");
    http::HeaderValue::try_from(text).unwrap_or(http::HeaderValue::from_static("clear"))
}
