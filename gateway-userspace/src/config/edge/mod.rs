//! Listeners, certificates, client identity, routes and upstreams.

mod acme;
mod bounds;
mod client;
mod http;
mod listener;
mod response;
mod rewrite;
mod route;
mod tls;
mod upstream;

pub use self::client::{Client, ForwardedHeader, MAX_TRUSTED, RawClient};
pub use self::http::{Http, MAX_HEADER_BYTES, MAX_HEADERS, RawHttp};
pub use self::listener::{Listener, MAX_CONNECTIONS, MAX_LISTENERS, ProxyProtocol, RawListener};
pub use self::response::{Cors, MAX_ORIGINS, RawCors, SecurityProfile};
pub use self::rewrite::{MAX_REWRITTEN, MAX_REWRITTEN_VALUE, RawRewrite, Rewrite};
pub use self::route::{HeaderMatch, MAX_ROUTES, PathMatch, RawRoute, Route};
pub use self::tls::{
    Certificate, ClientAuth, ClientCertificates, ClientHeaders, MAX_CERTIFICATES, MinVersion, RawTls, Tls,
};
pub use self::upstream::{
    Balance, HealthCheck, MAX_SERVERS, MAX_UPSTREAMS, Protocol, RawUpstream, Server, Upstream, UpstreamTls,
};
pub use acme::{Acme, Challenge as AcmeChallenge};

use super::policy::Policies;
use super::{Base, Problems};

/// All of the edge's sections, as written.
#[derive(Debug)]
pub(super) struct RawEdge {
    pub(super) listeners: Vec<RawListener>,
    pub(super) tls: RawTls,
    pub(super) client: RawClient,
    pub(super) http: RawHttp,
    pub(super) upstreams: Vec<RawUpstream>,
    pub(super) routes: Vec<RawRoute>,
}

/// The edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Default: plain HTTP at 0.0.0.0:8080 and TLS at 0.0.0.0:8443. 1 to 64.
    pub listeners: Vec<Listener>,
    /// Certificates and versions.
    pub tls: Tls,
    /// Client identity.
    pub client: Client,
    /// What a client may send, and how slowly.
    pub http: Http,
    /// Pools of servers; default none. At most 1,024.
    pub upstreams: Vec<Upstream>,
    /// Default: everything to the only upstream; with none or several, nothing (404). At most 4,096.
    pub routes: Vec<Route>,
}

pub(super) fn check(raw: RawEdge, policies: &mut Policies, base: &Base, problems: &mut Problems<'_>) -> Edge {
    let RawEdge { listeners, tls, client, http, upstreams, routes } = raw;
    let upstreams = upstream::check(upstreams, base, problems);
    let tls = tls::check(tls, base, problems);
    let listeners = listener::check(listeners, &tls, base, problems);
    let is_asked = listeners.iter().any(|l| l.clients.auth != ClientAuth::Off);
    Edge {
        listeners,
        tls,
        client: client::check(client, problems),
        http: http::check(http, problems),
        routes: route::check(routes, &upstreams, is_asked, policies, base, problems),
        upstreams,
    }
}

#[cfg(test)]
mod tests;
