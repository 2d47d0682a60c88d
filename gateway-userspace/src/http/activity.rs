//! What goes on in a connection of HTTP/2: whether it is idle, and whether its client has stopped reading.
//!
//! The library answers pings and lets windows stay shut for as long as the client likes. Here a connection without
//! streams ends after `idle_timeout` (its first stream is waited for no longer than a head), and one whose responses
//! all wait for the client ends after `send_timeout`. One response that goes on keeps the connection: browsers hold
//! single streams back for minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::edge::Http;

/// How often a connection is looked at, at most and at least.
const TICKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// There was no stream for too long.
    Idle,
    /// No response went on for too long, and the client is the reason.
    Stalled,
}

#[derive(Debug)]
pub(super) struct Activity {
    epoch: Instant,
    first: Duration,
    idle: Duration,
    send: Duration,
    open: AtomicU64,
    /// Streams that wait for the server, or for whoever is behind a tunnel.
    at_server: AtomicU64,
    /// Milliseconds after `epoch`.
    last: AtomicU64,
    has_begun: AtomicBool,
}

impl Activity {
    pub(super) fn new(http: &Http) -> Self {
        Self {
            epoch: Instant::now(),
            first: http.header_timeout,
            idle: http.idle_timeout,
            send: http.send_timeout,
            open: AtomicU64::new(0),
            at_server: AtomicU64::new(0),
            last: AtomicU64::new(0),
            has_begun: AtomicBool::new(false),
        }
    }

    /// How often to ask [`Activity::judge`].
    pub(super) fn tick(&self) -> Duration {
        (self.first.min(self.idle).min(self.send) / 4).clamp(TICKS.0, TICKS.1)
    }

    /// A stream begins; it ends when the value is dropped. Until its response goes out it is the server's turn.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.at_server.fetch_add(1, Ordering::Relaxed);
        self.has_begun.store(true, Ordering::Relaxed);
        self.note();
        Open(Arc::new(Stream { activity: Arc::clone(self), is_at_server: AtomicBool::new(true) }))
    }

    pub(super) fn judge(&self) -> Verdict {
        let still =
            self.epoch.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
        let begun = self.has_begun.load(Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) == 0 {
            let bound = if begun { self.idle } else { self.first };
            return if still >= bound { Verdict::Idle } else { Verdict::Fine };
        }
        let all_at_client = self.at_server.load(Ordering::Relaxed) == 0;
        if all_at_client && still >= self.send { Verdict::Stalled } else { Verdict::Fine }
    }

    fn note(&self) {
        self.last.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// One open stream.
#[derive(Clone, Debug)]
pub(super) struct Open(Arc<Stream>);

#[derive(Debug)]
struct Stream {
    activity: Arc<Activity>,
    is_at_server: AtomicBool,
}

impl Open {
    /// A piece of the response was taken: it is the client's turn.
    pub(super) fn moved(&self) {
        self.waits_for_server(false);
        self.0.activity.note();
    }

    /// Whose turn it is.
    pub(super) fn waits_for_server(&self, does: bool) {
        let Stream { activity, is_at_server } = &*self.0;
        if is_at_server.swap(does, Ordering::Relaxed) != does {
            if does {
                activity.at_server.fetch_add(1, Ordering::Relaxed);
            } else {
                activity.at_server.fetch_sub(1, Ordering::Relaxed);
                activity.note();
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if *self.is_at_server.get_mut() {
            self.activity.at_server.fetch_sub(1, Ordering::Relaxed);
        }
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
        self.activity.note();
    }
}
