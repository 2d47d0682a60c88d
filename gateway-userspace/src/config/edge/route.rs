//! `[[routes]]`: which request goes where.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::http::{hosts, methods};
use super::response::{self, Cors, RawCors, SecurityProfile};
use super::rewrite::{self, Direction, RawRewrite, Rewrite};
use super::tls::{ClientAuth, ClientCertificates};
use super::{Upstream, bounds};
use crate::config::policy::{self, Policies, RawExclusion};
use crate::config::{Base, Problems, Size, Span, waf};

/// Most routes.
pub const MAX_ROUTES: usize = 4096;

const SHORT: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// `[[routes]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRoute {
    name: Option<Spanned<String>>,
    hosts: Option<Spanned<Vec<String>>>,
    path: Option<Spanned<String>>,
    path_prefix: Option<Spanned<String>>,
    path_regex: Option<Spanned<String>>,
    methods: Option<Spanned<Vec<String>>>,
    upstream: Option<Spanned<String>>,
    waf: Option<waf::Mode>,
    waf_paranoia_level: Option<Spanned<u8>>,
    waf_inbound_threshold: Option<Spanned<u32>>,
    waf_exclude: Vec<Spanned<RawExclusion>>,
    max_body: Option<Spanned<Size>>,
    total_timeout: Option<Spanned<Span>>,
    body_timeout: Option<Spanned<Span>>,
    min_rate: Option<Spanned<Size>>,
    connect_timeout: Option<Spanned<Span>>,
    response_timeout: Option<Spanned<Span>>,
    replace_prefix: Option<Spanned<String>>,
    upgrade: bool,
    headers: Vec<Spanned<RawHeaderMatch>>,
    request_headers: Option<Spanned<RawRewrite>>,
    response_headers: Option<Spanned<RawRewrite>>,
    security_headers: SecurityProfile,
    override_security_headers: bool,
    cors: Option<RawCors>,
    client_auth: Option<Spanned<ClientAuth>>,
    client_ca: Option<Spanned<String>>,
}

/// An entry of `headers` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHeaderMatch {
    name: String,
    value: Option<String>,
}

/// A field that a request must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name, in lower case.
    pub name: String,
    /// Its exact value; none: any.
    pub value: Option<String>,
}

/// What a route matches by path. Of several matching routes an exact one wins, then the longest
/// prefix, then the first regular expression; among equals the one with a host, then the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// The path, or what is below it: `/api` matches `/api` and `/api/x`, not `/apix`.
    Prefix(String),
    /// A regular expression that must match from the beginning of the path to its end.
    Regex(String),
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Default `route-N`; shown in logs and metrics, and what limits can name.
    pub name: Arc<str>,
    /// Hosts, `*.example.com` for every name below; default: every host.
    pub hosts: Vec<String>,
    /// One of `path`, `path_prefix`, `path_regex`; default the prefix `/`.
    pub path: PathMatch,
    /// Methods that the route takes; default: those of `[http]`. Others are looked for in further routes.
    pub methods: Option<Vec<String>>,
    /// The upstream's index in [`super::Edge::upstreams`].
    pub upstream: usize,
    /// Mode of the rules on this route; default that of `[waf]`.
    pub waf: Option<waf::Mode>,
    /// The number of its policy in [`waf::Waf::policies`], from 1: paranoia level, threshold, exclusions. 0: none.
    pub waf_policy: u32,
    /// A request body in bytes; default that of `[http]`. Past it: 413.
    pub max_body: Option<u64>,
    /// From the request's head to the response's end; default: none; at most 1 day. Past it: 504, or the response is cut.
    pub total_timeout: Option<Duration>,
    /// Longest pause within a request body; default and bounds are those of `[http]`. Past it: 408.
    pub body_timeout: Option<Duration>,
    /// Least rate of a request body in bytes a second; default and bounds are those of `[http]`. Below it: 408.
    pub min_rate: Option<u64>,
    /// For a connection to a server; default and bounds are those of the upstream. Past it: 504.
    pub connect_timeout: Option<Duration>,
    /// From the request's end to the response's head; default and bounds are those of the upstream. Past it: 504.
    pub response_timeout: Option<Duration>,
    /// What replaces the matched prefix on the way to the upstream; default: nothing is replaced. Only with `path_prefix`.
    pub replace_prefix: Option<String>,
    /// Whether `Upgrade: websocket` is let through; default false: the upgrade is not offered to the upstream.
    pub upgrade: bool,
    /// Fields that a request must have, each with an exact value or any; default none; at most 16.
    pub headers: Vec<HeaderMatch>,
    /// Fields that are set or taken off on the way to the upstream; default none.
    pub request_headers: Rewrite,
    /// Fields that are set or taken off on the way to the client; default none. Not on the gateway's own answers.
    pub response_headers: Rewrite,
    /// `off`, `standard` (the default) or `strict`.
    pub security_headers: SecurityProfile,
    /// Whether they replace the server's own; default false.
    pub override_security_headers: bool,
    /// Cross-origin requests; default: the server's business.
    pub cors: Option<Cors>,
    /// Clients' certificates. `required`: a request without one is refused with 403. `off`: the upstream isn't told
    /// of one. Default `optional`. With `ca`, those who count are signed by it, besides what the listener asks for.
    pub clients: ClientCertificates,
}

pub(super) fn check(
    raw: Vec<RawRoute>,
    upstreams: &[Upstream],
    is_asked: bool,
    policies: &mut Policies,
    base: &Base,
    problems: &mut Problems<'_>,
) -> Vec<Route> {
    if raw.len() > MAX_ROUTES {
        problems.whole(format!("there are {} routes; at most {MAX_ROUTES} are possible.", raw.len()));
    }
    if raw.is_empty() && upstreams.len() == 1 {
        return vec![everything()];
    }
    let mut names = Vec::new();
    raw.into_iter()
        .enumerate()
        .map(|(i, mut raw)| {
            let clients = clients(raw.client_auth.take(), raw.client_ca.take(), is_asked, base, problems);
            Route { clients, ..one(i, raw, upstreams, &mut names, policies, problems) }
        })
        .collect()
}

/// Whether a route wants clients' certificates; `is_asked` is whether any listener asks for them.
fn clients(
    auth: Option<Spanned<ClientAuth>>,
    ca: Option<Spanned<String>>,
    is_asked: bool,
    base: &Base,
    problems: &mut Problems<'_>,
) -> ClientCertificates {
    let auth_is = auth.as_ref().map_or(ClientAuth::Optional, |a| *a.get_ref());
    if let Some(auth) = &auth
        && auth_is == ClientAuth::Required
        && !is_asked
    {
        problems.at(
            auth.span(),
            "no listener asks for certificates: set `client_auth = \"optional\"` in [tls] or a listener too.",
        );
    }
    if let Some(ca) = &ca
        && auth_is != ClientAuth::Required
    {
        problems.at(ca.span(), "`client_ca` of a route goes with `client_auth = \"required\"`.");
    }
    ClientCertificates { auth: auth_is, ca: ca.map(|ca| base.path(ca.get_ref())) }
}

/// The route of a file that has one upstream and no routes.
fn everything() -> Route {
    Route {
        name: "default".into(),
        hosts: Vec::new(),
        path: PathMatch::Prefix("/".to_owned()),
        methods: None,
        upstream: 0,
        waf: None,
        waf_policy: 0,
        max_body: None,
        total_timeout: None,
        body_timeout: None,
        min_rate: None,
        connect_timeout: None,
        response_timeout: None,
        replace_prefix: None,
        upgrade: false,
        headers: Vec::new(),
        request_headers: Rewrite::default(),
        response_headers: Rewrite::default(),
        security_headers: SecurityProfile::default(),
        override_security_headers: false,
        cors: None,
        clients: told(),
    }
}

fn one(
    i: usize,
    raw: RawRoute,
    upstreams: &[Upstream],
    names: &mut Vec<String>,
    policies: &mut Policies,
    p: &mut Problems<'_>,
) -> Route {
    let named = raw.name.as_ref().map(Spanned::span);
    let name = bounds::name("route", raw.name, format!("route-{}", i + 1), names, p);
    let upstream = match raw.upstream {
        None => {
            let message = format!("route `{name}` has no `upstream`: name one of [[upstreams]].");
            match named {
                Some(span) => p.at(span, message),
                None => p.whole(message),
            }
            0
        }
        Some(u) => upstreams.iter().position(|known| *known.name == **u.get_ref()).unwrap_or_else(|| {
            p.at(u.span(), format!("there is no upstream `{}`: name one of [[upstreams]].", u.get_ref()));
            0
        }),
    };
    let replace_prefix = raw.replace_prefix.map(|r| {
        if raw.path_prefix.is_none() || !r.get_ref().starts_with('/') {
            p.at(r.span(), "`replace_prefix` starts with `/` and goes with `path_prefix`.");
        }
        r.into_inner()
    });
    Route {
        name,
        hosts: raw.hosts.map_or_else(Vec::new, |list| hosts(list, p)),
        path: path(raw.path, raw.path_prefix, raw.path_regex, p),
        methods: raw.methods.map(|m| methods(Some(m), p)),
        upstream,
        waf: raw.waf,
        waf_policy: policies.add(
            policy::Raw {
                paranoia_level: raw.waf_paranoia_level,
                inbound_threshold: raw.waf_inbound_threshold,
                exclude: raw.waf_exclude,
            },
            p,
        ),
        max_body: raw.max_body.map(|m| bounds::size("max_body", Some(m), 0, 0..=64 << 30, p)),
        total_timeout: within("total_timeout", raw.total_timeout, MINUTE, SHORT..=24 * HOUR, p),
        body_timeout: within("body_timeout", raw.body_timeout, MINUTE / 4, 10 * SHORT..=HOUR, p),
        min_rate: raw.min_rate.map(|rate| bounds::size("min_rate", Some(rate), 100, 0..=1 << 20, p)),
        connect_timeout: within("connect_timeout", raw.connect_timeout, MINUTE / 30, SHORT..=MINUTE, p),
        response_timeout: within("response_timeout", raw.response_timeout, MINUTE, SHORT..=HOUR, p),
        replace_prefix,
        upgrade: raw.upgrade,
        headers: header_matches(raw.headers, p),
        request_headers: rewrite::check(Direction::Request, raw.request_headers, p),
        response_headers: rewrite::check(Direction::Response, raw.response_headers, p),
        security_headers: raw.security_headers,
        override_security_headers: raw.override_security_headers,
        cors: raw.cors.map(|c| response::check(c, p)),
        clients: told(),
    }
}

/// A time that a route may set.
fn within(
    key: &str,
    written: Option<Spanned<Span>>,
    default: Duration,
    range: RangeInclusive<Duration>,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    written.map(|time| bounds::duration(key, Some(time), default, range, problems))
}

/// Clients' certificates as they are without a word on them.
fn told() -> ClientCertificates {
    ClientCertificates { auth: ClientAuth::Optional, ca: None }
}

fn path(
    exact: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    regex: Option<Spanned<String>>,
    problems: &mut Problems<'_>,
) -> PathMatch {
    let second = [&exact, &prefix, &regex].into_iter().flatten().nth(1).map(Spanned::span);
    if let Some(second) = second {
        problems.at(second, "a route has one of `path`, `path_prefix` and `path_regex`: remove the others.");
    }
    for path in [&exact, &prefix].into_iter().flatten() {
        if !path.get_ref().starts_with('/') {
            problems.at(path.span(), "a path starts with `/`.");
        }
    }
    match (exact, prefix, regex) {
        (Some(exact), _, _) => PathMatch::Exact(exact.into_inner()),
        (None, Some(prefix), _) => PathMatch::Prefix(prefix.into_inner()),
        (None, None, Some(regex)) => {
            if let Err(e) = regex::Regex::new(regex.get_ref()) {
                problems.at(regex.span(), format!("`path_regex` is not a regular expression: {e}."));
            }
            PathMatch::Regex(regex.into_inner())
        }
        (None, None, None) => PathMatch::Prefix("/".to_owned()),
    }
}

fn header_matches(raw: Vec<Spanned<RawHeaderMatch>>, problems: &mut Problems<'_>) -> Vec<HeaderMatch> {
    if let Some(extra) = raw.get(16) {
        problems.at(extra.span(), "a route matches at most 16 headers.");
    }
    raw.into_iter()
        .map(|entry| {
            if entry.get_ref().name.parse::<http::HeaderName>().is_err() {
                problems.at(
                    entry.span(),
                    "`name` must be a header name, as in { name = \"x-version\", value = \"2\" }.",
                );
            }
            let RawHeaderMatch { name, value } = entry.into_inner();
            HeaderMatch { name: name.to_ascii_lowercase(), value }
        })
        .collect()
}
