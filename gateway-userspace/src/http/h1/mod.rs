//! HTTP/1.1, the client's side (RFC 9112).
//!
//! One task reads requests, has them answered and writes the answers. The parser is `wire`'s strict one:
//! what two servers could read in two ways is refused before any part of the daemon acts on it.

mod body;
mod io;
mod linger;
mod serve;
mod tunnel;
mod write;

use std::sync::Arc;

use tokio::sync::watch;

use super::connection::BoxedStream;
use super::server::{Phase, Shared};
use crate::listen::{Peer, Stream};
use crate::pipeline::Worker;

pub(super) use serve::serve;
pub(super) use tunnel::Tunnel;

/// What a connection's task has at hand.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: Arc<Worker>,
    pub(super) peer: Arc<Peer>,
    /// The port of `redirect_to_https`.
    pub(super) redirect: Option<u16>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// How a connection ended.
pub(super) enum End {
    /// For good.
    Closed,
    /// The client speaks HTTP/2 without TLS (prior knowledge); what was read of it, and the context.
    Http2(BoxedStream, bytes::Bytes, Context),
    /// The server switched protocols.
    Upgraded(Box<Tunnel<Stream>>),
}
