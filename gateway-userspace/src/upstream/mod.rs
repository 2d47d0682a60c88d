//! The servers behind the gateway: which one a request goes to, over which connection, and what
//! happens when it doesn't answer.

mod balance;
mod body;
mod budget;
mod connect;
mod connection;
mod exchange;
mod forward;
mod h2;
mod health;
mod metrics;
mod pool;
mod probe;
mod resolve;
mod sending;
mod socket;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

pub use connect::{SYSTEM_AUTHORITIES, UpstreamTlsError};
pub use forward::{MAX_ATTEMPTS, Upstream};
pub use pool::SWEEP_INTERVAL;
pub use resolve::MAX_ADDRESSES;
pub use socket::Socket;

use crate::config;
use crate::telemetry::RedByName;
use crate::wire::{Body, BodyError, FramingError, HeadError};
use health::InFlight;

/// A request on its way to a server, hop-by-hop fields taken off.
#[derive(Debug)]
pub struct UpstreamRequest {
    /// The method.
    pub method: Method,
    /// Path and query, as the server is to see them.
    pub target: Bytes,
    /// The fields, `Host` among them.
    pub headers: HeaderMap,
    /// The protocol of `Upgrade`, where the route lets it through.
    pub upgrade: Option<HeaderValue>,
    /// Whether the client reads trailers (`TE: trailers`, as gRPC needs it).
    pub wants_trailers: bool,
    /// The client's address, for choosing by it where `hash_header` names no field of the request.
    pub client: IpAddr,
    /// How long it waits for the server.
    pub patience: Patience,
}

/// How long a request waits for its server; where nothing is said, as long as the upstream's configuration says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// For a connection.
    pub connect: Option<Duration>,
    /// From the end of the request to the head of the response.
    pub response: Option<Duration>,
}

/// What a server answered, hop-by-hop fields taken off.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body; [`Body::Empty`] for an upgrade.
    pub body: Body,
    /// The connection, when the server switched protocols.
    pub upgraded: Option<Upgraded>,
    /// The server's address.
    pub server: Arc<str>,
}

/// A connection that speaks another protocol now.
#[derive(Debug)]
pub struct Upgraded {
    /// The socket.
    pub io: Socket,
    /// What the server sent behind its answer.
    pub read: Bytes,
    _in_flight: InFlight,
}

/// Why there is no answer from upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Every server is left out for its failures.
    #[error("no server of the upstream is healthy")]
    Unhealthy,
    /// Every server has as many requests in flight as it may.
    #[error("every server of the upstream is full")]
    Full,
    /// No connection could be made.
    #[error("no connection to the server could be made")]
    Connect,
    /// The server's certificate is not good, or the handshake failed otherwise.
    #[error("the TLS handshake with the server failed")]
    Handshake,
    /// The connect took too long.
    #[error("the connect took too long")]
    ConnectTimeout,
    /// We have no descriptor or memory for a connection.
    #[error("the gateway has no descriptor left for a connection")]
    Exhausted,
    /// The name of the server can't be resolved.
    #[error("the server's name can't be resolved")]
    Unresolved,
    /// The answer took too long.
    #[error("the server's answer took too long")]
    ResponseTimeout,
    /// The server closed instead of answering.
    #[error("the server closed the connection without an answer")]
    Closed,
    /// The answer's head is not HTTP.
    #[error("the server's answer is malformed: {0}")]
    Malformed(#[from] HeadError),
    /// The answer's length is ambiguous.
    #[error("the server's answer is malformed: {0}")]
    Framing(#[from] FramingError),
    /// The server switched protocols unasked, or sent too many interim answers.
    #[error("the server's answer breaks the protocol")]
    Unexpected,
    /// The request's body ended early: the client's fault.
    #[error("the request's body: {0}")]
    RequestBody(BodyError),
}

/// All upstreams of a configuration, in its order.
#[derive(Debug, Default)]
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    by_name: RedByName,
}

impl Upstreams {
    /// Upstreams for `workers` workers. What is configured as before keeps its connections and its health.
    ///
    /// # Errors
    /// When the TLS settings of one can't be used.
    pub fn build(
        configured: &[config::edge::Upstream],
        workers: usize,
        before: &Self,
    ) -> Result<Self, UpstreamTlsError> {
        let one = |configured: &config::edge::Upstream| {
            let same = before.all.iter().find(|u| u.config() == configured && u.workers() == workers);
            match same {
                Some(same) => Ok(Arc::clone(same)),
                None => Upstream::new(configured.clone(), workers).map(Arc::new),
            }
        };
        let all = configured.iter().map(one).collect::<Result<_, _>>()?;
        let by_name = RedByName::new(configured.iter().map(|u| &u.name), Some(&before.by_name));
        Ok(Self { all, by_name })
    }

    /// By index in the configuration.
    pub fn get(&self, index: usize) -> Option<&Arc<Upstream>> {
        self.all.get(index)
    }

    /// Counts an answer of an upstream, or that there was none (as 502).
    pub fn count(&self, name: &str, status: u16, took: Duration) {
        self.by_name.of(name).count(status, took);
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.all.iter()
    }

    /// Starts the health checks and the lookups of names that are due. Call it every [`SWEEP_INTERVAL`] on one worker.
    pub fn start_checks(&self, worker: usize) {
        for upstream in &self.all {
            upstream.start_checks(worker);
            upstream.start_lookups();
        }
    }

    /// Closes connections of `worker` that were idle for too long or that the server closed. Call it every
    /// [`SWEEP_INTERVAL`] on the worker.
    pub fn sweep(&self, worker: usize) {
        for upstream in &self.all {
            upstream.sweep(worker);
        }
    }
}

#[cfg(test)]
mod tests;
