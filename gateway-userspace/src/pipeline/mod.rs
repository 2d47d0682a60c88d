//! The life of a request.
//!
//! [`Pipeline::pass`] is that life, readable from top to bottom. Each stage takes what the stage before
//! made, so that none can be left out: a request that was not admitted can't be inspected, and one that was
//! not inspected can't be sent on.

mod conform;
mod finish;
mod hooks;
mod numbers;
mod offences;
mod outgoing;
mod path;
mod router;
mod site;
mod stages;
mod trace;
mod worker;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;

pub use conform::Incoming;
pub use finish::Finishing;
pub use hooks::{
    Challenge, DenyList, DenyReason, LimitCheck, LimitGate, LimitOutcome, LimitRefusal, LimitRequest,
    OffenceSink, Offences, Place, PlaceOf,
};
pub use site::{Site, SiteError};
pub use worker::Worker;

use crate::access::AccessLog;
use crate::config::bans::Offences as Counted;
use crate::inspect::{Inspection, Inspector};
use crate::listen::Peer;
use crate::respond::{self, Asked, Denial, Reply};
use numbers::Numbers;
use trace::{Now, Trace};

/// Looks up the answer to a token of an authority that validates a name.
pub type WellKnown = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the pipeline is made of; `app` fills it in.
pub struct Parts {
    /// The compiled configuration.
    pub site: Site,
    /// Makes inspections.
    pub inspector: Inspector,
    /// Where each request leaves its line.
    pub access: Arc<AccessLog>,
    /// Rate limits.
    pub limits: Option<Arc<dyn LimitGate>>,
    /// Bans of layer 7.
    pub deny_list: Option<Arc<dyn DenyList>>,
    /// Where addresses are, for the access log.
    pub places: Option<Arc<dyn PlaceOf>>,
    /// Where offences go.
    pub offences: Offences,
    /// What of a request's end counts as one.
    pub counted: Counted,
    /// What lies below `/.well-known/acme-challenge/`, by token.
    pub well_known: Option<WellKnown>,
}

/// Everything that happens to a request between reading it and answering it.
pub struct Pipeline {
    site: ArcSwap<Site>,
    inspector: Inspector,
    access: Arc<AccessLog>,
    limits: Option<Arc<dyn LimitGate>>,
    deny_list: Option<Arc<dyn DenyList>>,
    places: Option<Arc<dyn PlaceOf>>,
    offences: Offences,
    counted: ArcSwap<Counted>,
    well_known: Option<WellKnown>,
    numbers: Numbers,
}

impl Pipeline {
    /// A pipeline of these parts.
    pub fn new(parts: Parts) -> Self {
        Self {
            site: ArcSwap::from_pointee(parts.site),
            inspector: parts.inspector,
            access: parts.access,
            limits: parts.limits,
            deny_list: parts.deny_list,
            places: parts.places,
            offences: parts.offences,
            counted: ArcSwap::from_pointee(parts.counted),
            well_known: parts.well_known,
            numbers: Numbers::default(),
        }
    }

    /// The configuration in force.
    pub fn site(&self) -> Arc<Site> {
        self.site.load_full()
    }

    /// Puts another configuration in force; requests on their way keep the one they began with.
    pub fn set_site(&self, site: Site) {
        self.site.store(Arc::new(site));
    }

    /// Changes what of a request's end counts as an offence.
    pub fn set_counted(&self, counted: Counted) {
        self.counted.store(Arc::new(counted));
    }

    /// Whether an authority finds at this target the proof that it asks for: that is answered on the spot, by listeners that
    /// redirect all else too.
    pub fn has_proof(&self, target: &[u8]) -> bool {
        stages::proof_at(target, self.well_known.as_ref()).is_some()
    }

    /// Answers a request. The second value is to be kept until the response has gone out: dropping it writes the
    /// request's line, and dropping the future before its end does so as well.
    pub async fn handle(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        peer: &Arc<Peer>,
        incoming: Incoming,
    ) -> (Reply, Finishing) {
        let site = self.site.load_full();
        let request_id = stages::request_id(&site, worker, peer, &incoming);
        let mut trace = Trace::of_connection(peer, Now::read(), request_id);
        trace.see(&incoming);
        let mut finishing = Finishing::new(Arc::clone(self), Arc::clone(worker), trace);
        let outcome = self.pass(&site, worker, incoming, &mut finishing).await;
        let reply = match outcome {
            Ok(reply) => {
                finishing.trace.status = Some(reply.status);
                self.judge(&finishing.trace, None);
                reply
            }
            Err(denial) => self.deny(&denial, &mut finishing),
        };
        (reply, finishing)
    }

    /// Refuses what never became a request: a head that can't be read, or that didn't come.
    pub fn refuse(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        peer: &Arc<Peer>,
        denial: &Denial,
    ) -> (Reply, Finishing) {
        let trace = Trace::of_connection(peer, Now::read(), worker.request_id());
        let mut finishing = Finishing::new(Arc::clone(self), Arc::clone(worker), trace);
        let reply = self.deny(denial, &mut finishing);
        (reply, finishing)
    }

    /// The life of a request.
    async fn pass(
        &self,
        site: &Site,
        worker: &Arc<Worker>,
        incoming: Incoming,
        finishing: &mut Finishing,
    ) -> Result<Reply, Denial> {
        let Finishing { trace, inspection, holding, .. } = finishing;
        let request = conform::conform(incoming, &site.rules)?;
        trace.is_honeypot = self.counted.load().is_honeypot(request.path());
        if let Some(proof) = stages::proof(&request, self.well_known.as_ref(), trace) {
            return Ok(proof);
        }
        let request = stages::identify(request, site, trace)?;
        let request = stages::not_banned(request, self.deny_list.as_deref(), trace)?;
        let request = stages::route(request, site, trace)?;
        let (request, limit_fields, held) = stages::admit(request, self.limits.as_deref(), trace).await?;
        if let Some(reply) = request.preflight() {
            return Ok(reply);
        }
        let terms = request.terms();
        *inspection = self.begin_inspection(site, worker, &request);
        let request = stages::inspect_request(request, inspection, trace).await?;
        let answer = stages::forward(request, site, worker, trace).await?;
        let answer = stages::inspect_response(answer, inspection).await?;
        if let (Some(limits), Some(held)) = (&self.limits, held) {
            *holding = answer.settle(held, limits.as_ref());
        }
        Ok(stages::reply(answer, &terms, limit_fields, trace))
    }

    fn begin_inspection(&self, site: &Site, worker: &Worker, request: &stages::Admitted) -> Inspection {
        let (mode, policy) = request.waf(site.waf);
        self.inspector.begin(worker.index, &site.ruleset, mode, policy)
    }

    /// One answer for every refusal, and the offence in it.
    fn deny(&self, denial: &Denial, finishing: &mut Finishing) -> Reply {
        finishing.trace.findings = finishing.inspection.findings();
        let trace = &mut finishing.trace;
        trace.denied = Some(denial.code());
        self.numbers.denied(denial);
        let id: &HeaderValue = &trace.request_id;
        let asked =
            Asked { method: trace.method.as_ref(), accept: trace.accept.as_ref(), request_id: Some(id) };
        let reply = respond::refuse(denial, asked);
        trace.status = Some(reply.status);
        self.judge(trace, Some(denial));
        reply
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("site", &self.site).finish_non_exhaustive()
    }
}
