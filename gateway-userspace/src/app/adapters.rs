//! Between rooms that don't know each other: limits and bans as the pipeline asks for them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use super::push_back::PushBack;
use crate::bans;
use crate::bans::geo::Geo;
use crate::client::ClientId;
use crate::limits::{self, Check, Clock, Decision, Holding, Limiter, Outcome};
use crate::pipeline::{
    Challenge, DenyList, DenyReason, LimitCheck, LimitGate, LimitOutcome, LimitRefusal, LimitRequest, Place,
    PlaceOf,
};
use crate::telemetry::Sparse;

/// Decisions as the pipeline's deny list.
pub struct Denials {
    /// The decisions.
    pub bans: bans::Handle,
    /// Where addresses are, where there is a database.
    pub geo: Option<Arc<Geo>>,
}

impl DenyList for Denials {
    fn denied(&self, client: &ClientId, ja4: Option<&Arc<str>>) -> Option<DenyReason> {
        self.bans.seen(client);
        // Looked up only while a decision asks for it.
        let asks = self.bans.asks();
        let geo = self.geo.as_ref();
        let traits = bans::Traits {
            ja4,
            asn: geo.filter(|_| asks.asn).and_then(|geo| geo.asn(client.addr())),
            country: geo.filter(|_| asks.country).and_then(|geo| geo.country_code(client.addr())),
        };
        let decision = self.bans.denied(client, traits)?;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let left = decision.end_ms.map(|end| end.saturating_sub(now_ms).div_ceil(1000));
        let is_challenge = decision.action == bans::Action::Challenge;
        let challenge = is_challenge.then(|| Challenge { path: self.bans.challenge_path() });
        Some(DenyReason { retry_after: left, challenge })
    }
}

/// The databases of places: for the access log, and as the rules' (`@geoLookup`).
pub struct Places(pub Arc<Geo>);

impl PlaceOf for Places {
    fn place(&self, address: std::net::IpAddr) -> Place {
        Place { country: self.0.country_code(address), asn: self.0.asn(address) }
    }
}

impl gateway_waf::operators::GeoLookup for Places {
    fn lookup(&self, address: std::net::IpAddr) -> Option<gateway_waf::operators::GeoRecord> {
        let country_code = self.0.country(address)?;
        Some(gateway_waf::operators::GeoRecord {
            country_code,
            ..gateway_waf::operators::GeoRecord::default()
        })
    }
}

/// The limiter as the pipeline's gate.
pub struct Limits {
    limiter: Limiter,
    clock: Clock,
    geo: Option<Arc<Geo>>,
    push_back: PushBack,
}

impl Limits {
    /// The gate of this limiter; clients that go on past refusals are told to `push_back`.
    pub fn new(limiter: Limiter, geo: Option<Arc<Geo>>, push_back: PushBack) -> Self {
        Self { limiter, clock: Clock::start(), geo, push_back }
    }

    fn outcome(&self, decision: Decision) -> LimitOutcome {
        match decision {
            Decision::Allowed(permit) => {
                tell_shadowed(&permit);
                LimitOutcome {
                    refused: None,
                    shadowed: permit.standing().shadowed().map(Arc::clone).collect(),
                    fields: permit.headers().into_vec(),
                    holding: permit.holding(),
                }
            }
            Decision::Refused(mut refusal) => {
                tell_refused(&refusal);
                if let Some(persistence) = refusal.offence.take() {
                    self.push_back.tell(*persistence);
                }
                let mut fields = refusal.headers().into_vec();
                let shadowed = refusal.standing().shadowed().map(Arc::clone).collect();
                // The response is given its own.
                fields.retain(|(name, _)| name != http::header::RETRY_AFTER);
                LimitOutcome {
                    fields,
                    refused: Some(LimitRefusal {
                        limit: refusal.limit.clone(),
                        retry_after: (refusal.retry_after.as_secs_f64().ceil() as u64).max(1),
                        challenge: match refusal.response {
                            limits::Response::Challenge(location) => Some(location),
                            limits::Response::TooManyRequests => None,
                        },
                    }),
                    shadowed,
                    holding: None,
                }
            }
        }
    }
}

impl LimitGate for Limits {
    fn check<'a>(&'a self, request: LimitRequest<'a>) -> LimitCheck<'a> {
        let addr = request.client.addr();
        // Looked up only for a limit that asks for it.
        let places = self.limiter.places();
        let geo = self.geo.as_ref();
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
            country: geo.filter(|_| places.country).and_then(|geo| geo.country_code(addr)),
            asn: geo.filter(|_| places.asn).and_then(|geo| geo.asn(addr)),
            now: self.clock.now(),
        };
        match self.limiter.check(&asked) {
            Check::Done(decision) => LimitCheck::Done(self.outcome(decision)),
            Check::Pending(pending) => {
                LimitCheck::Wait(Box::pin(async move { self.outcome(pending.decide().await) }))
            }
        }
    }

    fn settle(&self, holding: Holding, status: u16, headers: &HeaderMap) -> Option<Holding> {
        holding.settle(&Outcome { status, headers }, self.clock.now())
    }
}

/// How often refusals are told in the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

fn tell_refused(refusal: &limits::Refusal) {
    static LINES: Sparse = Sparse::every(TELL_EVERY);
    if let Some(suppressed) = LINES.permit() {
        tracing::info!(
            limit = %refusal.limit,
            retry_after_s = refusal.retry_after.as_secs_f64().ceil(),
            suppressed,
            "a rate limit refuses; the access log and `gateway limits list` tell more"
        );
    }
}

fn tell_shadowed(permit: &limits::Permit) {
    static LINES: Sparse = Sparse::every(TELL_EVERY);
    if let Some(limit) = permit.standing().shadowed().next()
        && let Some(suppressed) = LINES.permit()
    {
        tracing::info!(%limit, suppressed, "a rate limit in shadow mode would have refused");
    }
}
