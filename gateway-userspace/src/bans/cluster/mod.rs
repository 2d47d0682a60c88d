//! Decisions shared with other nodes through Redis.
//!
//! Every node keeps a signed snapshot of its own decisions in a hash, and tells changes through a
//! stream that is trimmed. Whoever (re)connects writes its snapshot anew, says so, reads those of the
//! others, and follows the stream from where it ended before: newcomers, gaps longer than the stream
//! and an emptied Redis are one case. Redis gone: each node goes on by itself.
//!
//! Who can only write to Redis can sign nothing, so it can ban nobody; it can make nodes forget what
//! peers decided. A peer that was taken over is held by the guard, the bound on width, the longest
//! automatic ban and a cap on how many of its decisions hold here.

mod apply;
mod message;
mod session;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Handle;
use crate::config::bans::Cluster;
pub use message::{Key, MAX_MESSAGE_BYTES, MIN_KEY_BYTES, Message, Word};

/// Most nodes whose snapshots are read.
pub const MAX_NODES: usize = 64;
/// Messages taken from the stream at once, and entries of a snapshot.
pub const MAX_READ: usize = 512;
/// First and longest wait before connecting again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Largest secret that is read from a file, in bytes.
const MAX_SECRET_BYTES: u64 = 4096;

/// The cluster can't be joined with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A secret can't be read.
    #[error("`bans.cluster`: {path} can't be read: {error}")]
    Secret {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The key is too short to be one.
    #[error(
        "`bans.cluster.key_file` {0} holds fewer than {MIN_KEY_BYTES} bytes: make one with `openssl rand -hex 32`, the same for every node"
    )]
    ShortKey(std::path::PathBuf),
    /// The URL is none.
    #[error("`bans.cluster.redis_file` holds no URL of Redis such as redis://127.0.0.1:6379: {0}")]
    Url(redis::RedisError),
}

/// How the cluster fares; for metrics and status.
#[derive(Debug, Default)]
pub struct ClusterState {
    /// Whether Redis is there.
    pub connected: AtomicBool,
    /// Messages told.
    pub sent: AtomicU64,
    /// Messages of others taken in.
    pub received: AtomicU64,
    /// Messages that are not signed with the key, or no messages.
    pub forged: AtomicU64,
    /// Decisions of peers that the ledger refused: guarded, too wide, held already.
    pub refused: AtomicU64,
    /// Decisions of peers over their cap.
    pub over_cap: AtomicU64,
    last_error: Mutex<Option<Arc<str>>>,
}

impl ClusterState {
    /// Why Redis is not there; none while it is.
    pub fn last_error(&self) -> Option<Arc<str>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the metrics of this part.
    ///
    /// # Errors
    /// `out` refuses.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let connected = u64::from(self.connected.load(Ordering::Relaxed));
        writeln!(
            out,
            "# TYPE gateway_bans_cluster_connected gauge\ngateway_bans_cluster_connected {connected}"
        )?;
        for (name, value) in [
            ("sent", &self.sent),
            ("received", &self.received),
            ("forged", &self.forged),
            ("refused", &self.refused),
            ("over_cap", &self.over_cap),
        ] {
            writeln!(out, "# TYPE gateway_bans_cluster_{name}_total counter")?;
            writeln!(out, "gateway_bans_cluster_{name}_total {}", value.load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    fn lost(&self, why: &str) {
        if self.connected.swap(false, Ordering::Relaxed) || self.last_error().is_none() {
            tracing::warn!(%why, "decisions are not shared: Redis is not there; this node goes on by itself");
        }
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.into());
    }

    fn found(&self) {
        self.connected.store(true, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::info!("decisions are shared with the cluster");
    }
}

/// What a session needs.
struct Member {
    config: Cluster,
    key: Key,
    client: redis::Client,
    handle: Handle,
    state: Arc<ClusterState>,
    longest_ms: u64,
}

/// Joins the cluster: spawns a task on the current runtime that runs until it is aborted.
/// `longest` bounds the bans of peers: the longest automatic ban.
///
/// # Errors
/// Key or URL can't be used. Redis not being there is no error.
pub fn join(
    config: &Cluster,
    longest: Duration,
    handle: Handle,
) -> Result<(Arc<ClusterState>, tokio::task::JoinHandle<()>), ClusterError> {
    let key = secret(&config.key_file)?;
    let key = Key::new(key.trim_ascii(), config.stream.clone())
        .ok_or_else(|| ClusterError::ShortKey(config.key_file.clone()))?;
    let url = secret(&config.redis_file)?;
    let url = String::from_utf8_lossy(url.trim_ascii()).into_owned();
    let client = redis::Client::open(url).map_err(ClusterError::Url)?;
    let state = Arc::new(ClusterState::default());
    let member = Member {
        config: config.clone(),
        key,
        client,
        handle,
        state: state.clone(),
        longest_ms: longest.as_millis() as u64,
    };
    let task = tokio::spawn(async move {
        let mut wait = RETRY.0;
        loop {
            let error = session::run(&member).await;
            if member.state.connected.load(Ordering::Relaxed) {
                wait = RETRY.0;
            }
            member.state.lost(&error.to_string());
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    });
    Ok((state, task))
}

fn secret(path: &Path) -> Result<Vec<u8>, ClusterError> {
    use std::io::Read;
    let failed = |error| ClusterError::Secret { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_SECRET_BYTES)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
