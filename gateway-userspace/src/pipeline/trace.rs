//! What is remembered of a request for its line in the log, its offences and its numbers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{REFERER, USER_AGENT};
use http::{HeaderValue, Method, StatusCode, Version};

use super::conform::Incoming;
use crate::client::ClientId;
use crate::inspect::{Findings, TlsFacts};
use crate::listen::{ClientCertificate, Peer};

/// A request's facts, gathered on its way.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) started: Instant,
    pub(super) unix_ns: u64,
    pub(super) request_id: HeaderValue,
    pub(super) peer: Arc<Peer>,
    pub(super) client: ClientId,
    pub(super) method: Option<Method>,
    pub(super) target: Bytes,
    pub(super) host: Arc<str>,
    pub(super) version: Version,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) referer: Option<HeaderValue>,
    pub(super) accept: Option<HeaderValue>,
    pub(super) route: Option<Arc<str>>,
    pub(super) server: Option<Arc<str>>,
    pub(super) server_took: Option<Duration>,
    pub(super) denied: Option<&'static str>,
    /// The rate limit that refused.
    pub(super) limit: Option<Arc<str>>,
    /// The rate limits in shadow mode that would have refused.
    pub(super) shadowed: Vec<Arc<str>>,
    pub(super) findings: Findings,
    pub(super) status: Option<StatusCode>,
    /// Asks for what only scanners ask for.
    pub(super) is_honeypot: bool,
}

impl Trace {
    /// Of a connection whose request is not read yet.
    pub(super) fn of_connection(peer: &Arc<Peer>, now: Now, request_id: HeaderValue) -> Self {
        let addr = peer.relayed.unwrap_or(peer.socket).ip();
        let client = if peer.relayed.is_some() {
            ClientId::behind(peer.socket.ip(), addr)
        } else {
            ClientId::direct(addr)
        };
        Self {
            started: now.instant,
            unix_ns: now.unix_ns,
            request_id,
            peer: Arc::clone(peer),
            client,
            method: None,
            target: Bytes::new(),
            host: Arc::default(),
            version: Version::HTTP_11,
            user_agent: None,
            referer: None,
            accept: None,
            route: None,
            server: None,
            server_took: None,
            denied: None,
            limit: None,
            shadowed: Vec::new(),
            findings: Findings::default(),
            status: None,
            is_honeypot: false,
        }
    }

    /// Remembers what the request says of itself.
    pub(super) fn see(&mut self, incoming: &Incoming) {
        self.method = Some(incoming.method.clone());
        self.target = incoming.target.clone();
        self.version = incoming.version;
        self.user_agent = incoming.headers.get(USER_AGENT).cloned();
        self.referer = incoming.headers.get(REFERER).cloned();
        self.accept = crate::respond::Asked::accept_of(&incoming.headers).cloned();
    }

    /// The client's certificate, where one was verified.
    pub(super) fn certificate(&self) -> Option<&ClientCertificate> {
        self.peer.tls.as_ref().and_then(|tls| tls.client_certificate.as_deref())
    }

    /// What rules may know of the handshake.
    pub(super) fn tls_facts(&self) -> Option<TlsFacts<'_>> {
        self.peer.tls.as_ref().map(|tls| TlsFacts {
            version: tls.version,
            ja4: tls.ja4.as_deref(),
            server_name: tls.server_name.as_deref(),
            certificate: tls
                .client_certificate
                .as_deref()
                .map(|c| [&*c.subject, &*c.issuer, &*c.alternatives]),
        })
    }

    pub(super) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or("")
    }

    /// The client with its port, which is known for a direct one only.
    pub(super) fn client_socket(&self) -> SocketAddr {
        let from = self.peer.relayed.unwrap_or(self.peer.socket);
        let port = if from.ip().to_canonical() == self.client.addr() { from.port() } else { 0 };
        SocketAddr::new(self.client.addr(), port)
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    /// Nanoseconds since 1970.
    pub(super) unix_ns: u64,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), unix_ns: unix_ns() }
    }
}

/// Nanoseconds since 1970.
pub(super) fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
