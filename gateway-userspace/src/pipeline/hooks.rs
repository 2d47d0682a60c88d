//! What the pipeline asks of rooms that it doesn't know: limits, bans. `app` connects them.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::sync::mpsc;

use crate::bans::Offence;
use crate::client::ClientId;
use crate::limits::Permit;

/// What limits can key on.
#[derive(Clone, Copy, Debug)]
pub struct LimitRequest<'a> {
    /// The client.
    pub client: &'a ClientId,
    /// The socket's peer.
    pub peer: IpAddr,
    /// The route's name.
    pub route: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The host, in lower case.
    pub host: &'a str,
    /// The path, normalised.
    pub path: &'a [u8],
    /// The query, without its question mark.
    pub query: Option<&'a [u8]>,
    /// The fields.
    pub headers: &'a HeaderMap,
    /// The TLS fingerprint.
    pub ja4: Option<&'a str>,
    /// The subject of the client's certificate, where one was verified.
    pub certificate: Option<&'a str>,
}

/// What limits say.
#[derive(Default)]
pub struct LimitOutcome {
    /// Set when the request is refused.
    pub refused: Option<LimitRefusal>,
    /// `RateLimit` fields for the response, refused or not.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// What the request holds until its answer is known; dropped unsettled it counts as used.
    pub permit: Option<Permit>,
}

/// A refusal by a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRefusal {
    /// The limit's name.
    pub limit: std::sync::Arc<str>,
    /// Seconds until it may be tried again.
    pub retry_after: u64,
}

/// An answer now, or one that has to be asked for elsewhere.
#[allow(clippy::large_enum_variant, reason = "the large one is the common one, and lives for a moment")]
pub enum LimitCheck<'a> {
    /// Decided locally.
    Done(LimitOutcome),
    /// A store is asked; the future bounds its own time.
    Wait(Pin<Box<dyn Future<Output = LimitOutcome> + Send + 'a>>),
}

/// Rate limits.
pub trait LimitGate: Send + Sync {
    /// Counts a request and says whether it may go on.
    fn check<'a>(&'a self, request: LimitRequest<'a>) -> LimitCheck<'a>;

    /// Settles what a request held, now that the origin answered. Never waits.
    fn settle(&self, permit: Permit, status: u16, headers: &HeaderMap);
}

/// Why a client is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenyReason {
    /// Seconds until the ban ends, where it does.
    pub retry_after: Option<u64>,
}

/// Bans that only layer 7 can enforce: clients behind proxies, and everything where the kernel side is off.
pub trait DenyList: Send + Sync {
    /// Why this client is banned, if it is. Called for each request: it must not block.
    fn denied(&self, client: &ClientId) -> Option<DenyReason>;
}

/// The way out for offences: a bounded queue that never makes a request wait.
#[derive(Debug)]
pub struct Offences {
    queue: Option<mpsc::Sender<Offence>>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Offences {
    /// Offences into `queue`; without one they are not told.
    pub fn new(queue: Option<mpsc::Sender<Offence>>) -> Self {
        Self { queue, sent: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }

    /// Whether anybody listens: making an offence costs something.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Tells an offence, or drops and counts it when the queue is full.
    pub fn tell(&self, offence: Offence) {
        if let Some(queue) = &self.queue {
            let counter = if queue.try_send(offence).is_ok() { &self.sent } else { &self.dropped };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes the queue's numbers.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (name, help, value) in [
            ("gateway_pipeline_offences_total", "Offences told.", &self.sent),
            (
                "gateway_pipeline_offences_dropped_total",
                "Offences dropped: the queue was full.",
                &self.dropped,
            ),
        ] {
            let value = value.load(Ordering::Relaxed);
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}
