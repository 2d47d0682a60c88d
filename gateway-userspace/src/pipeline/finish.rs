//! The end of a request: its line in the log, its numbers, its inspection's memory.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::trace::Trace;
use super::{Pipeline, Worker};
use crate::access::Record;
use crate::inspect::{Ended, Inspection};
use crate::limits::Holding;

/// The status in the log of a request whose client left before it was answered (nginx's number for it).
const CLIENT_CLOSED: u16 = 499;

/// A request that is not over. Dropping it ends it, however that comes about.
pub struct Finishing {
    pipeline: Arc<Pipeline>,
    worker: Arc<Worker>,
    /// On the heap: the whole goes from hand to hand.
    pub(super) trace: Box<Trace>,
    pub(super) inspection: Inspection,
    /// Places among the concurrent requests: free again when the body has gone out.
    pub(super) holding: Option<Holding>,
    sent: u64,
    is_complete: bool,
}

impl Finishing {
    pub(super) fn new(pipeline: Arc<Pipeline>, worker: Arc<Worker>, trace: Trace) -> Self {
        let (inspection, trace) = (Inspection::default(), Box::new(trace));
        Self { pipeline, worker, trace, inspection, holding: None, sent: 0, is_complete: false }
    }

    /// Counts bytes of the response's body that went out.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The response went out whole.
    pub fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Time since the request came.
    pub fn took(&self) -> Duration {
        self.trace.started.elapsed()
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        let Self { pipeline, worker, trace, inspection, sent, is_complete, .. } = self;
        let took = trace.started.elapsed();
        let closed = StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST);
        let status = trace.status.unwrap_or(closed);
        let ended = Ended {
            began_unix_nanos: trace.unix_ns,
            ended_unix_nanos: trace.unix_ns.saturating_add(took.as_nanos() as u64),
            status: status.as_u16(),
        };
        if let Some(findings) = pipeline.inspector.end(worker.index, std::mem::take(inspection), ended) {
            trace.findings = findings;
        }
        pipeline.numbers.finished(status, took, *sent);
        pipeline.site.load().by_route.of(trace.route.as_deref().unwrap_or("")).count(status.as_u16(), took);
        let places = pipeline.places.as_ref().filter(|_| pipeline.access.is_on());
        let place = places.map(|places| places.place(trace.client.addr())).unwrap_or_default();
        pipeline.access.record(
            worker.index,
            &Record {
                unix_ms: trace.unix_ns / 1_000_000,
                took,
                request_id: trace.request_id(),
                peer: trace.peer.socket.ip(),
                client: trace.client,
                listener: &trace.peer.listener,
                route: trace.route.as_deref(),
                method: trace.method.as_ref(),
                target: &trace.target,
                host: &trace.host,
                version: trace.version,
                user_agent: trace.user_agent.as_ref(),
                referer: trace.referer.as_ref(),
                status,
                sent: *sent,
                complete: *is_complete,
                server: trace.server.as_deref(),
                server_took: trace.server_took,
                denied: trace.denied,
                limit: trace.limit.as_deref(),
                shadowed: &trace.shadowed,
                score: trace.findings.score,
                rules: &trace.findings.rules,
                tls: trace.peer.tls.as_ref().map(|t| t.version),
                ja4: trace.peer.tls.as_ref().and_then(|t| t.ja4.as_deref()),
                country: place.country,
                asn: place.asn,
            },
        );
    }
}

impl std::fmt::Debug for Finishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finishing").field("trace", &self.trace).finish_non_exhaustive()
    }
}
