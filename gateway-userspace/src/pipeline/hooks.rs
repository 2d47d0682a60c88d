//! What the pipeline asks of rooms that it doesn't know: limits, bans. `app` connects them.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::bans::Offence;
use crate::client::ClientId;
use crate::limits::Holding;

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
    /// The names of the limits in shadow mode that would have refused it.
    pub shadowed: Vec<Arc<str>>,
    /// `RateLimit` fields for the response, refused or not.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// What the request holds until its answer is known; dropped unsettled it counts as used.
    pub holding: Option<Holding>,
}

/// A refusal by a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRefusal {
    /// The limit's name.
    pub limit: Arc<str>,
    /// Seconds until it may be tried again.
    pub retry_after: u64,
    /// Where the client is challenged, if it is.
    pub challenge: Option<Arc<str>>,
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

    /// Settles what a request held, now that the origin's head is known. Never waits. What it gives back is held until
    /// the body has gone out.
    fn settle(&self, holding: Holding, status: u16, headers: &HeaderMap) -> Option<Holding>;
}

/// Why a client is turned away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyReason {
    /// Seconds until the ban ends, where it does.
    pub retry_after: Option<u64>,
    /// It may show that it means well; none: it is refused.
    pub challenge: Option<Challenge>,
}

/// What is asked of a client that is not trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Where it is sent, and may go; none: nowhere.
    pub path: Option<Arc<str>>,
}

/// Where addresses are.
pub trait PlaceOf: Send + Sync {
    /// What is known. Called for each request: it must not block.
    fn place(&self, address: IpAddr) -> Place;
}

/// Where an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The country's two letters.
    pub country: Option<[u8; 2]>,
    /// The autonomous system.
    pub asn: Option<u32>,
}

/// Bans that only layer 7 can enforce: clients behind proxies, and everything where the kernel side is off.
pub trait DenyList: Send + Sync {
    /// Why this client, with this TLS fingerprint, is banned, if it is. Called for each request: it must not block.
    fn denied(&self, client: &ClientId, ja4: Option<&Arc<str>>) -> Option<DenyReason>;
}

/// Takes offences. Called on the path of requests: it must not wait.
pub trait OffenceSink: Send + Sync {
    /// Takes one, or drops and counts it.
    fn tell(&self, offence: Offence);
}

impl OffenceSink for crate::bans::Handle {
    fn tell(&self, offence: Offence) {
        self.offend(offence);
    }
}

/// The way out for offences.
#[derive(Clone, Default)]
pub struct Offences(Option<Arc<dyn OffenceSink>>);

impl Offences {
    /// Offences into `sink`; without one they are not told.
    pub fn new(sink: Option<Arc<dyn OffenceSink>>) -> Self {
        Self(sink)
    }

    /// Whether anybody listens: making an offence costs something.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells an offence.
    pub fn tell(&self, offence: Offence) {
        if let Some(sink) = &self.0 {
            sink.tell(offence);
        }
    }
}

impl std::fmt::Debug for Offences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Offences").field(&self.is_on()).finish()
    }
}
