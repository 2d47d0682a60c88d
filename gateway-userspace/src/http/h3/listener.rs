//! Accepting QUIC connections: on one worker for each listener, since its connections share one socket.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::h1::Context;
use super::super::server::{Phase, Shared, past};
use crate::listen::{Peer, quic};
use crate::pipeline::Worker;

/// How long requests that have begun may take once draining has: a successor waits for the port.
pub(in crate::http) const DRAIN: Duration = Duration::from_secs(2);
/// Handshakes at a time; further ones are refused.
const MAX_HANDSHAKES: usize = 512;
/// Handshakes at a time from which on a client must show that its address is its own (RFC 9000, section 8.1.2).
const RETRY_FROM: usize = 32;
/// Pause between attempts to get a port that the predecessor still has.
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP/3 on a listener until draining is over.
pub(in crate::http) async fn serve(
    listener: usize,
    shared: Arc<Shared>,
    worker: Arc<Worker>,
    mut phase: watch::Receiver<Phase>,
) {
    let Some((bound, acceptor)) = shared.listeners.get(listener) else { return };
    let Some(tls) = &acceptor.tls else { return };
    let mut settings = Settings::default();
    let Some(first) = settings.current(&tls.load_full(), &shared) else { return };
    let socket = tokio::select! {
        socket = open(bound) => socket,
        () = past(&mut phase, Phase::Run) => return,
    };
    let endpoint =
        Endpoint::new(EndpointConfig::default(), Some((*first).clone()), socket, Arc::new(TokioRuntime));
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(e) => {
            tracing::error!(listener = %acceptor.name, "HTTP/3 is not served: {e}");
            return;
        }
    };
    let handshakes = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = connections.join_next() => continue,
            () = past(&mut phase, Phase::Run) => break,
        };
        let Some(incoming) = incoming else { break };
        let under_way = handshakes.load(Ordering::Relaxed);
        if under_way >= MAX_HANDSHAKES {
            incoming.refuse();
            continue;
        }
        if under_way >= RETRY_FROM && !incoming.remote_address_validated() && incoming.may_retry() {
            // Whoever gives a false address never answers this, and has cost nothing.
            let _ = incoming.retry();
            continue;
        }
        let Some(settings) = settings.current(&tls.load_full(), &shared) else {
            incoming.refuse();
            continue;
        };
        let place = Place::take(&handshakes);
        let (shared, worker, phase) = (Arc::clone(&shared), Arc::clone(&worker), phase.clone());
        connections.spawn(establish(listener, incoming, settings, place, shared, worker, phase));
    }
    endpoint.set_server_config(None);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN + Duration::from_millis(500), all).await;
    endpoint.close(quinn::VarInt::from_u32(0x100), b"");
    let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
}

/// The listener's UDP socket; a predecessor that drains gives the port up soon.
async fn open(bound: &crate::listen::Bound) -> UdpSocket {
    if let Some(socket) = bound.udp.as_ref().and_then(|udp| udp.try_clone().ok()) {
        return socket;
    }
    let mut is_told = false;
    loop {
        match quic::open(bound.local) {
            Ok(socket) => return socket,
            Err(e) if !is_told => {
                is_told = true;
                tracing::info!(listener = %bound.listener.name, "HTTP/3 waits for its port: {e}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

/// The QUIC settings of the TLS settings in force, made again when those change.
#[derive(Default)]
struct Settings(Option<(Arc<rustls::ServerConfig>, Arc<quinn::ServerConfig>)>);

impl Settings {
    fn current(
        &mut self,
        tls: &Arc<rustls::ServerConfig>,
        shared: &Shared,
    ) -> Option<Arc<quinn::ServerConfig>> {
        if let Some((of, settings)) = &self.0
            && Arc::ptr_eq(of, tls)
        {
            return Some(Arc::clone(settings));
        }
        match quic::settings(tls, &shared.pipeline.site().http) {
            Ok(settings) => {
                let settings = Arc::new(settings);
                self.0 = Some((Arc::clone(tls), Arc::clone(&settings)));
                Some(settings)
            }
            Err(e) => {
                tracing::error!("HTTP/3 is not served with these TLS settings: {e}");
                None
            }
        }
    }
}

/// One handshake under way; given back on drop.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn establish(
    listener: usize,
    incoming: Incoming,
    settings: Arc<quinn::ServerConfig>,
    place: Place,
    shared: Arc<Shared>,
    worker: Arc<Worker>,
    phase: watch::Receiver<Phase>,
) {
    let Some((bound, acceptor)) = shared.listeners.get(listener) else { return };
    let handshake = async { incoming.accept_with(settings)?.await };
    let connection = match tokio::time::timeout(acceptor.timeout(), handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            // No offence: the address may be somebody else's until the handshake is done.
            acceptor.numbers.failed(quic::failure(&error));
            shared.numbers.handshake_failed();
            return;
        }
        Err(_) => {
            acceptor.numbers.failed(crate::listen::Failure::Timeout);
            shared.numbers.handshake_failed();
            return;
        }
    };
    drop(place);
    let remote = connection.remote_address();
    let remote = std::net::SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let site = shared.pipeline.site();
    let source = (!site.trust.trusts(remote.ip())).then(|| remote.ip());
    // Counted by the admission. Only now is it certain whose address this is.
    let Ok(_permit) = shared.admission.admit(listener, bound.listener.max_connections, source) else {
        connection.close(quinn::VarInt::from_u32(0x107), b"too many connections");
        return;
    };
    shared.numbers.h3_opened();
    let local =
        std::net::SocketAddr::new(connection.local_ip().unwrap_or(bound.local.ip()), bound.local.port());
    let tls = quic::info(&connection, acceptor.asks_certificate(), &acceptor.numbers);
    let peer = Peer::new(remote, None, local, Arc::clone(&acceptor.name), Some(tls));
    let context = Context {
        shared: Arc::clone(&shared),
        worker,
        peer: Arc::new(peer),
        redirect: None,
        alt_svc: None,
        is_shed: false,
        phase,
    };
    super::connection(connection, context, &site.http).await;
}
