//! One worker: a thread with its own event loop, which accepts, serves and forwards without ever handing a
//! request to another thread.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::overload::{LOOK_INTERVAL, Room};
use super::server::{Phase, Shared, past};
use super::{connection, h3};
use crate::pipeline::Worker;
use crate::upstream::SWEEP_INTERVAL;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn start(
    index: usize,
    cpu: Option<usize>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut sockets = Vec::with_capacity(shared.listeners.len());
    {
        let _entered = runtime.enter();
        for (bound, _) in &shared.listeners {
            sockets.push(TcpListener::from_std(bound.socket.try_clone()?)?);
        }
    }
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Some(cpu) = cpu {
            pin(index, cpu);
        }
        runtime.block_on(run(index, shared, sockets, phase));
        // Connections that are still open are cut off here.
        runtime.shutdown_background();
    })
}

/// Keeps this thread on one CPU.
fn pin(worker: usize, cpu: usize) {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(cpu);
    if let Err(e) = rustix::thread::sched_setaffinity(None, &cpus) {
        tracing::warn!(worker, cpu, "a worker can't be pinned to its CPU and runs on any: {e}");
    }
}

async fn run(
    index: usize,
    shared: Arc<Shared>,
    sockets: Vec<TcpListener>,
    mut phase: watch::Receiver<Phase>,
) {
    let worker = Arc::new(Worker::new(index));
    for (listener, socket) in sockets.into_iter().enumerate() {
        let accepting = Accepting::begin(&shared);
        tokio::spawn(accept(listener, socket, accepting, Arc::clone(&worker), phase.clone()));
    }
    for (listener, (bound, _)) in shared.listeners.iter().enumerate() {
        if bound.listener.http3 && listener % shared.workers == index {
            tokio::spawn(h3::serve(listener, Arc::clone(&shared), Arc::clone(&worker), phase.clone()));
        }
    }
    if index == 0 {
        tokio::spawn(watch_memory(Arc::clone(&shared), phase.clone()));
    }
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            () = past(&mut phase, Phase::Drain) => return,
            _ = ticks.tick() => {
                let site = shared.pipeline.site();
                site.upstreams.sweep(index);
                if index == 0 {
                    site.upstreams.start_checks(index);
                }
            }
        }
    }
}

/// Looks at memory until the server stops.
async fn watch_memory(shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            () = past(&mut phase, Phase::Drain) => return,
            _ = ticks.tick() => shared.overload.look(shared.pipeline.site().http.max_memory),
        }
    }
}

/// A task that accepts.
struct Accepting(Arc<Shared>);

impl Accepting {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.accepting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::Release);
    }
}

/// Accepts on one listener until draining begins.
async fn accept(
    listener: usize,
    socket: TcpListener,
    accepting: Accepting,
    worker: Arc<Worker>,
    mut phase: watch::Receiver<Phase>,
) {
    let shared = &accepting.0;
    let draining = phase.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            // Whoever is in the queue now is left to the successor, which has the same queue.
            () = past(&mut phase, Phase::Run) => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(listener, stream, peer, shared, &worker, &draining),
            Err(e) => {
                shared.numbers.accept_failed();
                // The connection that failed may be gone (ECONNABORTED); without descriptors, wait for some.
                if e.kind() != std::io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Starts the connection's task, if it is let in.
fn admit(
    listener: usize,
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    worker: &Arc<Worker>,
    phase: &watch::Receiver<Phase>,
) {
    let Some((bound, _)) = shared.listeners.get(listener) else { return };
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let site = shared.pipeline.site();
    let descriptor = u64::try_from(stream.as_raw_fd()).unwrap_or(0);
    let room = shared.overload.room(descriptor, site.http.spare_descriptors);
    if room == Room::None {
        return;
    }
    let is_proxy = site.trust.trusts(peer.ip());
    let source = (!is_proxy).then(|| peer.ip());
    let Ok(permit) = shared.admission.admit(listener, bound.listener.max_connections, source) else {
        // Counted by the admission. Closing costs the least that can be done.
        return;
    };
    let (shared, worker, phase) = (Arc::clone(shared), Arc::clone(worker), phase.clone());
    tokio::spawn(async move {
        let _permit = permit;
        connection::serve(listener, stream, peer, room == Room::Little, &shared, &worker, phase).await;
    });
}
