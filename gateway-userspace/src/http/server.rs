//! Starting, draining and stopping the data plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::numbers::Numbers;
use super::overload::Overload;
use super::worker;
use crate::listen::{Acceptor, Admission, Bound};
use crate::pipeline::Pipeline;

/// What the server is made of.
#[derive(Debug)]
pub struct ServerParts {
    /// Listening sockets with what turns their connections into streams, in the order of the configuration.
    pub listeners: Vec<(Bound, Acceptor)>,
    /// Counts connections.
    pub admission: Arc<Admission>,
    /// Answers requests.
    pub pipeline: Arc<Pipeline>,
    /// Threads.
    pub workers: usize,
    /// The CPUs that they are pinned to, one after the other; empty: wherever the kernel likes.
    pub cpus: Vec<usize>,
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A worker's thread or event loop.
    #[error(
        "worker {index} can't be started: {source}. Check the limits on threads and descriptors (ulimit -u, -n)."
    )]
    Worker {
        /// Which.
        index: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What workers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Accept and serve.
    Run,
    /// Accept no more; finish what is begun.
    Drain,
    /// Leave.
    Stop,
}

/// Waits until the phase is past `phase`; at once when the server is gone.
pub(super) async fn past(receiver: &mut watch::Receiver<Phase>, phase: Phase) {
    let reached = receiver.wait_for(|now| *now > phase).await;
    drop(reached);
}

/// What all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) listeners: Vec<(Bound, Acceptor)>,
    pub(super) admission: Arc<Admission>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) numbers: Numbers,
    pub(super) workers: usize,
    pub(super) overload: Overload,
    /// Tasks that accept: while there is one, a connection may have been taken that is not counted yet.
    pub(super) accepting: AtomicUsize,
}

/// The running data plane.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts the workers; when this returns all of them accept.
    ///
    /// # Errors
    /// When a worker can't be started; those that were are stopped.
    pub fn start(parts: ServerParts) -> Result<Self, StartError> {
        let ServerParts { listeners, admission, pipeline, workers, cpus } = parts;
        let shared = Arc::new(Shared {
            listeners,
            admission,
            pipeline,
            numbers: Numbers::default(),
            workers: workers.max(1),
            overload: Overload::of_system(),
            accepting: AtomicUsize::new(0),
        });
        let (phase, _) = watch::channel(Phase::Run);
        let mut server = Self { shared, phase, threads: Vec::with_capacity(workers) };
        for index in 0..workers.max(1) {
            let cpu = cpus.get(index % cpus.len().max(1)).copied();
            match worker::start(index, cpu, Arc::clone(&server.shared), server.phase.subscribe()) {
                Ok(thread) => server.threads.push(thread),
                // Dropping the server stops the workers that run.
                Err(source) => return Err(StartError::Worker { index, source }),
            }
        }
        Ok(server)
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.shared.admission.open()
    }

    /// The sockets, to be handed over.
    pub fn listeners(&self) -> impl Iterator<Item = &Bound> {
        self.shared.listeners.iter().map(|(bound, _)| bound)
    }

    /// Accepts no more, lets connections finish what they have begun for at most `deadline`, then stops. Blocks:
    /// call it where that is allowed. Gives the number of connections that were cut off.
    pub fn drain(mut self, deadline: Duration) -> u64 {
        self.phase.send_replace(Phase::Drain);
        let started = std::time::Instant::now();
        let is_busy = || self.shared.accepting.load(Ordering::Acquire) > 0 || self.connections() > 0;
        while is_busy() && started.elapsed() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let left = self.connections();
        self.stop();
        left
    }

    /// Writes the numbers of connections.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        self.shared.numbers.write(out, &self.shared.admission)?;
        self.shared.overload.write(out)?;
        // The numbers of handshakes are shared by all listeners.
        self.shared.listeners.first().map_or(Ok(()), |(_, acceptor)| acceptor.numbers.write(out))
    }

    fn stop(&mut self) {
        self.phase.send_replace(Phase::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
