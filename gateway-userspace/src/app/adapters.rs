//! Between rooms that don't know each other: limits and bans as the pipeline asks for them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use crate::bans;
use crate::bans::geo::Geo;
use crate::client::ClientId;
use crate::limits::{self, Check, Clock, Decision, Limiter, Outcome, Permit};
use crate::pipeline::{
    DenyList, DenyReason, LimitCheck, LimitGate, LimitOutcome, LimitRefusal, LimitRequest,
};

/// Decisions as the pipeline's deny list.
pub struct Denials(pub bans::Handle);

impl DenyList for Denials {
    fn denied(&self, client: &ClientId) -> Option<DenyReason> {
        self.0.seen(client);
        let decision = self.0.denied(client)?;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let left = decision.end_ms.map(|end| end.saturating_sub(now_ms).div_ceil(1000));
        Some(DenyReason { retry_after: left })
    }
}

/// The limiter as the pipeline's gate.
pub struct Limits {
    limiter: Limiter,
    clock: Clock,
    geo: Option<Arc<Geo>>,
}

impl Limits {
    /// The gate of this limiter.
    pub fn new(limiter: Limiter, geo: Option<Arc<Geo>>) -> Self {
        Self { limiter, clock: Clock::start(), geo }
    }
}

impl LimitGate for Limits {
    fn check<'a>(&'a self, request: LimitRequest<'a>) -> LimitCheck<'a> {
        let now = self.clock.now();
        let asked = limits::LimitRequest {
            client: *request.client,
            route: request.route,
            host: request.host,
            method: request.method,
            // A path or query that is not UTF-8 counts as empty: it still counts, under one key.
            path: std::str::from_utf8(request.path).unwrap_or_default(),
            query: request.query.and_then(|q| std::str::from_utf8(q).ok()),
            headers: request.headers,
            ja4: request.ja4,
            certificate: request.certificate,
            country: None,
            asn: self.geo.as_ref().and_then(|geo| geo.asn(request.client.addr())),
            now,
        };
        match self.limiter.check(&asked) {
            Check::Done(decision) => LimitCheck::Done(outcome(decision)),
            Check::Pending(_) => LimitCheck::Wait(Box::pin(async move {
                // The check is asked again inside of the future, which owns what it borrows.
                outcome(self.limiter.decide(&asked).await)
            })),
        }
    }

    fn settle(&self, permit: Permit, status: u16, headers: &HeaderMap) {
        permit.settle(&Outcome { status, headers }, self.clock.now());
    }
}

fn outcome(decision: Decision) -> LimitOutcome {
    match decision {
        Decision::Allowed(permit) => {
            LimitOutcome { refused: None, fields: permit.headers().into_vec(), permit: Some(permit) }
        }
        Decision::Refused(refusal) => LimitOutcome {
            fields: refusal.headers().into_vec(),
            refused: Some(LimitRefusal {
                limit: refusal.limit.clone(),
                retry_after: refusal.retry_after.as_secs_f64().ceil() as u64,
            }),
            permit: None,
        },
    }
}
