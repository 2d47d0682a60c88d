//! The stages between a conforming request and its reply. Each takes the value of the one before.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::{Method, StatusCode, Version};

use super::WellKnown;
use super::conform::{Conforming, Incoming};
use super::hooks::{Challenge, DenyList, DenyReason, LimitCheck, LimitGate, LimitRequest};
use super::outgoing;
use super::router::NoRoute;
use super::site::Site;
use super::trace::Trace;
use super::worker::Worker;
use crate::config::edge::{ClientAuth, Route};
use crate::config::waf;
use crate::inspect::{Inspection, RequestView};
use crate::limits::Holding;
use crate::listen::Peer;
use crate::respond::{self, Afterwards, Challenged, Denial, REQUEST_ID, Reply, cors};
use crate::upstream::{Patience, UpstreamError, UpstreamRequest, UpstreamResponse};
use crate::wire::{Body, BodyError, Capped, Pace, Paced, remove_where};

/// Longest request id that is taken over from a trusted peer, in bytes.
pub const MAX_REQUEST_ID: usize = 128;

/// A request whose client is known.
#[derive(Debug)]
pub(super) struct Identified {
    request: Conforming,
    is_trusted: bool,
}

/// A request whose client is not banned.
#[derive(Debug)]
pub(super) struct NotBanned(Identified);

/// A request that a route takes.
#[derive(Debug)]
pub(super) struct Routed {
    request: Identified,
    route: Arc<Route>,
}

/// A request that no limit refuses.
#[derive(Debug)]
pub(super) struct Admitted(Routed);

/// A request that the rules let through.
#[derive(Debug)]
pub(super) struct Inspected(Routed);

/// An answer that the rules have not seen.
#[derive(Debug)]
pub(super) struct Answered(UpstreamResponse);

/// An answer that the rules let through.
#[derive(Debug)]
pub(super) struct Cleared(UpstreamResponse);

impl Cleared {
    /// Tells the limits what the origin answered; what is given back is held until the body has gone out.
    pub(super) fn settle(&self, holding: Holding, limits: &dyn LimitGate) -> Option<Holding> {
        limits.settle(holding, self.0.status.as_u16(), &self.0.headers)
    }
}

type Fields = Vec<(HeaderName, HeaderValue)>;

/// Where an authority looks for the proof that a name leads here (RFC 8555 section 8.3).
const CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// The proof that an authority asks for, while one is waiting; any other request goes on.
pub(super) fn proof(request: &Conforming, known: Option<&WellKnown>, trace: &Trace) -> Option<Reply> {
    let proof = proof_at(request.path(), known)?;
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(&REQUEST_ID, trace.request_id.clone());
    let body = Body::Full(Bytes::from(proof));
    Some(Reply { status: StatusCode::OK, headers, body, upgraded: None, connection: Afterwards::Keep })
}

/// The proof that waits at this path.
pub(super) fn proof_at(path: &[u8], known: Option<&WellKnown>) -> Option<String> {
    known?(std::str::from_utf8(path.strip_prefix(CHALLENGES)?).ok()?)
}

/// The id of a request: a trusted peer's own, else a new one.
pub(super) fn request_id(site: &Site, worker: &Worker, peer: &Peer, incoming: &Incoming) -> HeaderValue {
    let given = incoming.headers.get(&REQUEST_ID).filter(|id| {
        let plain = |b: &u8| b.is_ascii_graphic();
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(plain)
            && site.trust.trusts(peer.relayed.unwrap_or(peer.socket).ip())
    });
    given.cloned().unwrap_or_else(|| worker.request_id())
}

/// Who the client is.
pub(super) fn identify(request: Conforming, site: &Site, trace: &mut Trace) -> Result<Identified, Denial> {
    trace.host = Arc::clone(&request.host);
    let socket = trace.peer.socket.ip();
    let relayed = trace.peer.relayed.map(|r| r.ip());
    trace.client = site.trust.identify(socket, relayed, &request.headers).map_err(Denial::Forwarded)?;
    if site.http.sni_must_match_host
        && let Some(tls) = &trace.peer.tls
        && tls.server_name.as_deref().is_some_and(|name| *name != *request.host)
    {
        return Err(Denial::Misdirected);
    }
    let is_trusted = site.trust.trusts(relayed.unwrap_or(socket));
    Ok(Identified { request, is_trusted })
}

/// Bans that the kernel can't enforce.
pub(super) fn not_banned(
    request: Identified,
    deny_list: Option<&dyn DenyList>,
    trace: &Trace,
) -> Result<NotBanned, Denial> {
    let ja4 = trace.peer.tls.as_ref().and_then(|tls| tls.ja4.as_ref());
    match deny_list.and_then(|list| list.denied(&trace.client, ja4)) {
        None => Ok(NotBanned(request)),
        Some(DenyReason { challenge: Some(Challenge { path }), .. }) => {
            let there = |path: &Arc<str>| is_below(request.request.path(), path.as_bytes());
            if path.as_ref().is_some_and(there) {
                return Ok(NotBanned(request));
            }
            Err(Denial::Challenged { path })
        }
        Some(reason) => Err(Denial::Banned { retry_after: reason.retry_after }),
    }
}

/// Whether a path is this place or lies below it.
fn is_below(path: &[u8], place: &[u8]) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || place.ends_with(b"/") || rest[0] == b'/')
}

/// Where it goes, how much it may bring, and how slowly.
pub(super) fn route(request: NotBanned, site: &Site, trace: &mut Trace) -> Result<Routed, Denial> {
    let NotBanned(mut identified) = request;
    let request = &mut identified.request;
    let route = site.router.find(&request.host, request.path(), &request.method, &request.headers).map_err(
        |none| match none {
            NoRoute::Path => Denial::NoRoute,
            NoRoute::Method(allow) => Denial::Method { allow },
        },
    )?;
    trace.route = Some(Arc::clone(&route.name));
    if route.clients.auth == ClientAuth::Required {
        has_certificate(route, site, trace)?;
    }
    let max = route.max_body.unwrap_or(site.http.max_body);
    match request.body.exact_len() {
        Some(len) if len > max => return Err(Denial::Body(BodyError::TooLarge)),
        Some(_) => {}
        None => request.body = Body::stream(Capped::new(std::mem::take(&mut request.body), max)),
    }
    if let Body::Stream(_) = request.body {
        let pause = route.body_timeout.unwrap_or(site.http.body_timeout);
        let pace = Pace::new(pause, route.min_rate.unwrap_or(site.http.min_rate));
        request.body = Body::stream(Paced::new(std::mem::take(&mut request.body), pace));
    }
    let route = Arc::clone(route);
    Ok(Routed { request: identified, route })
}

/// Whether the client showed a certificate that the route takes.
fn has_certificate(route: &Route, site: &Site, trace: &Trace) -> Result<(), Denial> {
    let Some(certificate) = trace.certificate() else {
        return Err(Denial::Certificate("client_certificate_required"));
    };
    match site.authorities.get(&route.name) {
        Some(authority) if !certificate.is_vouched_for_by(authority) => {
            Err(Denial::Certificate("client_certificate_authority"))
        }
        _ => Ok(()),
    }
}

/// Whether limits let it through; the fields to tell the client how much is left.
pub(super) async fn admit(
    request: Routed,
    limits: Option<&dyn LimitGate>,
    trace: &mut Trace,
) -> Result<(Admitted, Fields, Option<Holding>), Denial> {
    let Some(limits) = limits else { return Ok((Admitted(request), Vec::new(), None)) };
    let inner = &request.request.request;
    let asked = LimitRequest {
        client: &trace.client,
        peer: trace.peer.socket.ip(),
        route: &request.route.name,
        method: &inner.method,
        host: &inner.host,
        path: inner.path(),
        query: inner.query(),
        headers: &inner.headers,
        ja4: trace.peer.tls.as_ref().and_then(|t| t.ja4.as_deref()),
        // By its name, else (all names may stand in the alternatives) by its hash.
        certificate: trace.certificate().map(|c| if c.subject.is_empty() { &*c.sha256 } else { &*c.subject }),
    };
    let outcome = match limits.check(asked) {
        LimitCheck::Done(outcome) => outcome,
        LimitCheck::Wait(answer) => answer.await,
    };
    trace.shadowed = outcome.shadowed;
    match outcome.refused {
        Some(refusal) => {
            trace.limit = Some(Arc::clone(&refusal.limit));
            let challenge = refusal.challenge.map(|location| challenge(&location, trace));
            Err(Denial::Limited {
                limit: refusal.limit,
                retry_after: refusal.retry_after,
                fields: outcome.fields,
                challenge,
            })
        }
        None => Ok((Admitted(request), outcome.fields, outcome.holding)),
    }
}

/// How a challenge is told: who shows pages is sent there, a program is told where it is.
fn challenge(location: &str, trace: &Trace) -> Challenged {
    let shows_pages = trace.accept.as_ref().is_some_and(respond::wants_html)
        && matches!(trace.method, Some(Method::GET | Method::HEAD));
    // The configuration has visible ASCII alone, and the rest is percent-encoded.
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    Challenged { location, redirects: shows_pages }
}

/// What the reply needs to know of the request once that has been sent on.
#[derive(Debug)]
pub(super) struct Terms {
    route: Arc<Route>,
    origin: Option<HeaderValue>,
}

impl Admitted {
    /// What the route adds to the reply.
    pub(super) fn terms(&self) -> Terms {
        let origin =
            self.0.route.cors.as_ref().and_then(|_| self.0.request.request.headers.get(ORIGIN).cloned());
        Terms { route: Arc::clone(&self.0.route), origin }
    }

    /// The answer to a preflight, where the route answers those.
    pub(super) fn preflight(&self) -> Option<Reply> {
        let request = &self.0.request.request;
        let cors = self.0.route.cors.as_ref()?;
        cors::is_preflight(&request.method, &request.headers)
            .then(|| cors::preflight(cors, request.headers.get(ORIGIN)))
    }

    /// The mode of the rules, which is `otherwise` where the route has none, and the number of the route's policy.
    pub(super) fn waf(&self, otherwise: waf::Mode) -> (waf::Mode, u32) {
        (self.0.route.waf.unwrap_or(otherwise), self.0.route.waf_policy)
    }
}

/// Phases 1 and 2 of the rules.
pub(super) async fn inspect_request(
    request: Admitted,
    inspection: &mut Inspection,
    trace: &Trace,
) -> Result<Inspected, Denial> {
    let Admitted(mut routed) = request;
    let request = &mut routed.request.request;
    let view = RequestView {
        client: trace.client_socket(),
        server: trace.peer.local,
        unix_nanos: trace.unix_ns,
        request_id: trace.request_id(),
        method: &request.method,
        target: &request.target,
        version: request.version,
        headers: &request.headers,
        withheld: &request.withheld,
        tls: trace.tls_facts(),
    };
    inspection.request_headers(&view).map_err(Denial::Waf)?;
    let body = std::mem::take(&mut request.body);
    request.body = inspection.request_body(body).await.map_err(Denial::Waf)?;
    Ok(Inspected(routed))
}

/// To a server and back.
pub(super) async fn forward(
    request: Inspected,
    site: &Site,
    worker: &Worker,
    trace: &mut Trace,
) -> Result<Answered, Denial> {
    let Inspected(Routed { request: Identified { request, is_trusted }, route }) = request;
    let upstream = site.upstreams.get(route.upstream).ok_or(Denial::NoRoute)?;
    let Conforming {
        method,
        target,
        path_len,
        host,
        version,
        mut headers,
        withheld: _,
        body,
        upgrade,
        wants_trailers,
    } = request;
    if version == Version::HTTP_10 && !headers.contains_key(HOST) {
        // HTTP/1.1 wants one; the server's own name is the honest one.
        let name = if host.is_empty() { upstream.config().name.as_ref() } else { &host };
        headers.insert(HOST, HeaderValue::from_str(name).map_err(|_| Denial::Request("no_host"))?);
    }
    outgoing::describe_client(&mut headers, trace, is_trusted.then(|| site.trust.header()));
    outgoing::trace_context(&mut headers, trace, worker);
    let is_told = route.clients.auth != ClientAuth::Off;
    outgoing::describe_certificate(&mut headers, trace, &site.client_headers, is_told, is_trusted);
    route.request_headers.apply(&mut headers);
    let request = UpstreamRequest {
        method,
        target: outgoing::rewrite(&route, target, path_len),
        headers,
        upgrade: upgrade.filter(|_| route.upgrade),
        wants_trailers,
        client: trace.client.addr(),
        patience: Patience { connect: route.connect_timeout, response: route.response_timeout },
    };
    let started = Instant::now();
    // Pinned where it is made: it is large, and nobody moves it.
    let sent = pin!(upstream.forward(worker.index, worker.random(), request, body));
    let answered = match route.total_timeout {
        None => sent.await,
        Some(total) => {
            let left = total.saturating_sub(trace.started.elapsed());
            tokio::time::timeout(left, sent).await.map_err(|_| Denial::Total)?
        }
    };
    let took = started.elapsed();
    trace.server_took = Some(took);
    let status = answered.as_ref().map_or(StatusCode::BAD_GATEWAY, |a| a.status).as_u16();
    site.upstreams.count(&upstream.config().name, status, took);
    let mut answer = answered.map_err(Denial::Upstream)?;
    trace.server = Some(Arc::clone(&answer.server));
    if let Some(total) = route.total_timeout
        && matches!(answer.body, Body::Stream(_))
    {
        let left = total.saturating_sub(trace.started.elapsed());
        answer.body = Body::stream(crate::wire::Deadline::new(answer.body, left));
    }
    Ok(Answered(answer))
}

/// Phases 3 and 4 of the rules.
pub(super) async fn inspect_response(
    answer: Answered,
    inspection: &mut Inspection,
) -> Result<Cleared, Denial> {
    let Answered(mut answer) = answer;
    let body = std::mem::take(&mut answer.body);
    let inspected = inspection.response(answer.status, &answer.headers, body).await;
    answer.body = inspected.map_err(|denial| match denial {
        // The server broke off: not the client's fault.
        crate::inspect::WafDenial::Body(_) => Denial::Upstream(UpstreamError::Closed),
        other => Denial::Waf(other),
    })?;
    Ok(Cleared(answer))
}

/// The answer in the gateway's name.
pub(super) fn reply(answer: Cleared, terms: &Terms, limit_fields: Fields, trace: &Trace) -> Reply {
    let Cleared(UpstreamResponse { status, mut headers, body, upgraded, .. }) = answer;
    hide_server(&mut headers);
    let Terms { route, origin } = terms;
    respond::secure(
        &mut headers,
        route.security_headers,
        trace.peer.tls.is_some(),
        route.override_security_headers,
    );
    if let Some(cors) = &route.cors {
        cors::mark(&mut headers, cors, origin.as_ref());
    }
    route.response_headers.apply(&mut headers);
    headers.insert(&REQUEST_ID, trace.request_id.clone());
    for (name, value) in limit_fields {
        headers.append(name, value);
    }
    Reply { status, headers, body, upgraded, connection: Afterwards::Keep }
}

/// What software stands behind is nobody's business.
fn hide_server(headers: &mut HeaderMap) {
    remove_where(headers, |name| matches!(name, "server" | "x-powered-by"));
}
