//! Forwarding: choose a server, get a connection, exchange, and try again where that is safe.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use hyper::client::conn::http2::SendRequest;

use super::balance::{self, Candidate};
use super::budget::Budget;
use super::connect::{Connector, UpstreamTlsError};
use super::connection::Connection;
use super::exchange::{Failed, exchange};
use super::health::{Backend, InFlight};
use super::{UpstreamError, UpstreamRequest, UpstreamResponse, h2};
use crate::config::edge::{self, Protocol};
use crate::wire::Body;

/// Most servers or connections that one request tries.
pub const MAX_ATTEMPTS: usize = 3;

/// A pool of servers with their connections and their health.
#[derive(Debug)]
pub struct Upstream {
    config: edge::Upstream,
    connector: Connector,
    pub(super) backends: Box<[Arc<Backend>]>,
    turn: AtomicU64,
    budget: Budget,
    pub(super) retries: AtomicU64,
}

impl Upstream {
    /// Servers without connections, all healthy.
    pub(super) fn new(config: edge::Upstream, workers: usize) -> Result<Self, UpstreamTlsError> {
        let connector = Connector::new(&config)?;
        let max_idle = usize::try_from(config.max_idle).unwrap_or(usize::MAX);
        let backend = |server: &edge::Server| {
            Arc::new(Backend::new(server.clone(), workers, max_idle, config.idle_timeout))
        };
        let backends = config.servers.iter().map(backend).collect();
        Ok(Self {
            config,
            connector,
            backends,
            turn: AtomicU64::new(0),
            budget: Budget::new(),
            retries: AtomicU64::new(0),
        })
    }

    /// What is configured.
    pub fn config(&self) -> &edge::Upstream {
        &self.config
    }

    pub(super) fn workers(&self) -> usize {
        self.backends.first().map_or(0, |b| b.pool.workers())
    }

    pub(super) fn sweep(&self, worker: usize) {
        for backend in &self.backends {
            backend.pool.sweep(worker);
        }
    }

    /// Sends a request and reads the head of its answer. `worker` is the calling worker's index, `random` is
    /// fresh for each call.
    ///
    /// A request is sent again when no connection could be made, or when a connection from the pool turned out
    /// closed and the method is idempotent (RFC 9110, section 9.2.2) and its body is in memory; in both cases
    /// within a budget of one retry for five requests.
    ///
    /// # Errors
    /// Why no server answered.
    pub async fn forward(
        &self,
        worker: usize,
        random: u64,
        request: UpstreamRequest,
        body: Body,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut body = body;
        self.budget.earn();
        let within = request.patience.connect.unwrap_or(self.config.connect_timeout);
        let mut tried = 0u64;
        let mut attempt = 1;
        loop {
            let (index, in_flight) = self.choose(&request, random.rotate_left(attempt as u32 * 7), tried)?;
            let backend = Arc::clone(&in_flight.0);
            let fresh_only = attempt > 1;
            let opened = match self.open(&backend, worker, fresh_only, within).await {
                Ok(opened) => opened,
                // Our own want says nothing about the server.
                Err(UpstreamError::Exhausted) => return Err(UpstreamError::Exhausted),
                Err(error) => {
                    backend.failed(self.config.max_failures, self.config.failure_pause);
                    tried |= 1 << (index % 64);
                    if attempt >= MAX_ATTEMPTS || attempt >= self.backends.len() || !self.budget.spend() {
                        return Err(error);
                    }
                    attempt += 1;
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            let again = match &body {
                Body::Empty => Some(Body::Empty),
                Body::Full(bytes) => Some(Body::Full(bytes.clone())),
                Body::Stream(_) => None,
            };
            let sent = std::mem::take(&mut body);
            let exchanged = self.exchange(opened, &request, sent, worker, in_flight).await;
            let failed = match exchanged {
                Ok(response) => {
                    backend.succeeded();
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            match again {
                Some(again)
                    if failed.is_stale
                        && attempt < MAX_ATTEMPTS
                        && is_idempotent(&request.method)
                        && self.budget.spend() =>
                {
                    body = again;
                    attempt += 1;
                    self.retries.fetch_add(1, Ordering::Relaxed);
                }
                _ => {
                    // A client that doesn't send its body says nothing about the server.
                    if !matches!(failed.error, UpstreamError::RequestBody(_)) {
                        backend.failed(self.config.max_failures, self.config.failure_pause);
                    }
                    return Err(failed.error);
                }
            }
        }
    }

    fn choose(
        &self,
        request: &UpstreamRequest,
        random: u64,
        tried: u64,
    ) -> Result<(usize, InFlight), UpstreamError> {
        let max = self.config.max_connections;
        if let [only] = &*self.backends {
            // With nowhere else to go, a server that failed is asked anyway.
            return only.enter(max).map(|f| (0, f)).ok_or(UpstreamError::Full);
        }
        let all = self.backends.iter().enumerate();
        let candidates: Vec<Candidate> = all
            .filter(|(i, b)| b.is_healthy() && tried & (1 << (i % 64)) == 0)
            .map(|(index, b)| Candidate {
                index,
                weight: b.server.weight,
                load: b.in_flight.load(Ordering::Relaxed),
                seed: b.seed,
            })
            .collect();
        if candidates.is_empty() {
            return Err(UpstreamError::Unhealthy);
        }
        let free: Vec<Candidate> = candidates.into_iter().filter(|c| c.load < max).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let index = balance::choose(self.config.balance, &free, random, turn, || self.key(request));
        let index = index.ok_or(UpstreamError::Full)?;
        let backend = self.backends.get(index).ok_or(UpstreamError::Full)?;
        backend.enter(max).map(|f| (index, f)).ok_or(UpstreamError::Full)
    }

    /// What the server is chosen by, where it is chosen by the request.
    fn key(&self, request: &UpstreamRequest) -> u64 {
        let field = self.config.hash_header.as_ref().and_then(|name| request.headers.get(name.as_str()));
        match (field, request.client) {
            (Some(value), _) => balance::hash(value.as_bytes()),
            (None, IpAddr::V4(addr)) => balance::hash(&addr.octets()),
            (None, IpAddr::V6(addr)) => balance::hash(&addr.octets()),
        }
    }

    /// Starts the lookups of names that are due, each as a task of its own, bounded in time.
    pub(super) fn start_lookups(self: &Arc<Self>) {
        for backend in self.backends.iter().filter(|b| b.resolved.is_due()) {
            let (upstream, backend) = (Arc::clone(self), Arc::clone(backend));
            tokio::spawn(async move {
                backend.resolved.look(upstream.config.resolve_interval).await;
                backend.pool.leave(|address| backend.resolved.has(address));
                backend.streams.leave(|address| backend.resolved.has(address));
            });
        }
    }

    pub(super) async fn exchange(
        &self,
        opened: Opened,
        request: &UpstreamRequest,
        body: Body,
        worker: usize,
        in_flight: InFlight,
    ) -> Result<UpstreamResponse, Failed> {
        match opened {
            Opened::Http1(connection) => {
                exchange(*connection, request, body, &self.config, worker, in_flight).await
            }
            Opened::Http2(sender) => {
                h2::exchange(sender, request, body, self.connector.is_tls(), &self.config, in_flight)
                    .await
                    .map_err(|error| Failed { error, is_stale: false })
            }
        }
    }

    pub(super) async fn open(
        &self,
        backend: &Backend,
        worker: usize,
        fresh_only: bool,
        within: Duration,
    ) -> Result<Opened, UpstreamError> {
        let is_h2 = self.config.protocol == Protocol::Http2;
        if is_h2 && let Some(sender) = backend.streams.get(worker) {
            return Ok(Opened::Http2(sender));
        }
        if !is_h2
            && !fresh_only
            && let Some(connection) = backend.pool.take(worker)
        {
            return Ok(Opened::Http1(Box::new(connection)));
        }
        let connect = async {
            let addresses = backend.resolved.addresses(self.config.resolve_interval).await;
            let turn = backend.requests.load(Ordering::Relaxed) as usize;
            let socket = self.connector.connect(&backend.server.address, &addresses, turn, within).await?;
            if is_h2 {
                backend.streams.open(worker, socket, &self.config).await.map(Opened::Http2)
            } else {
                Ok(Opened::Http1(Box::new(Connection::new(socket))))
            }
        };
        let connected = tokio::time::timeout(within, connect).await;
        connected.map_err(|_| UpstreamError::ConnectTimeout)?
    }
}

/// A way to a server.
pub(super) enum Opened {
    Http1(Box<Connection>),
    Http2(SendRequest<Body>),
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
