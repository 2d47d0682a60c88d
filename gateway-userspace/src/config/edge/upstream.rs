//! `[[upstreams]]`: the servers behind the gateway.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Certificate, bounds};
use crate::config::{Base, Problems, Span};

/// Most upstreams.
pub const MAX_UPSTREAMS: usize = 1024;
/// Most servers of one upstream.
pub const MAX_SERVERS: usize = 256;

/// `[[upstreams]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawUpstream {
    name: Option<Spanned<String>>,
    servers: Option<Spanned<Vec<Spanned<RawServer>>>>,
    balance: Balance,
    connect_timeout: Option<Spanned<Span>>,
    response_timeout: Option<Spanned<Span>>,
    read_timeout: Option<Spanned<Span>>,
    idle_timeout: Option<Spanned<Span>>,
    max_idle: Option<Spanned<u64>>,
    max_connections: Option<Spanned<u64>>,
    max_failures: Option<Spanned<u64>>,
    failure_pause: Option<Spanned<Span>>,
    protocol: Protocol,
    tls: Option<RawUpstreamTls>,
    health_check: Option<RawHealthCheck>,
}

/// `[upstreams.health_check]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHealthCheck {
    path: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    interval: Option<Spanned<Span>>,
    timeout: Option<Spanned<Span>>,
    healthy_after: Option<Spanned<u64>>,
    unhealthy_after: Option<Spanned<u64>>,
}

/// `[upstreams.tls]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawUpstreamTls {
    ca: Option<String>,
    server_name: Option<Spanned<String>>,
    certificate: Option<Spanned<String>>,
    key_file: Option<String>,
}

/// A server as written: an address alone, or with a weight.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum RawServer {
    /// `"10.0.0.1:8080"`.
    Address(String),
    /// `{ address = "10.0.0.1:8080", weight = 2 }`.
    Weighted {
        /// Host or address, and port.
        address: String,
        /// Default 1.
        weight: Option<u64>,
    },
}

/// What is spoken to the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "http1")]
    Http1,
    /// HTTP/2, without TLS by prior knowledge. gRPC needs it.
    #[serde(rename = "http2")]
    Http2,
}

/// TLS to the servers; their certificates are always verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM: who signs the servers' certificates; default: `/etc/ssl/certs/ca-certificates.crt`.
    pub ca: Option<PathBuf>,
    /// The name in the servers' certificates; default: the host of the server's address.
    pub server_name: Option<String>,
    /// The gateway's own certificate, where the servers ask for one; default: none.
    pub certificate: Option<Certificate>,
}

/// Active checks of each server: a GET whose answer must be 2xx or 3xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Default `/`.
    pub path: String,
    /// `Host` of the check; default: the server's address.
    pub host: Option<String>,
    /// Default 5 s; 1 s to 1 h.
    pub interval: Duration,
    /// Default 2 s; 10 ms to 1 min.
    pub timeout: Duration,
    /// Good checks in a row after which a server gets requests again; default 2; 1 to 100.
    pub healthy_after: u64,
    /// Bad checks in a row after which it gets none; default 3; 1 to 100.
    pub unhealthy_after: u64,
}

/// How a server is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Two servers at random (by weight), then the one with fewer requests in flight for its weight.
    #[default]
    TwoChoices,
    /// One after the other, by weight.
    RoundRobin,
    /// The same client address reaches the same server (rendezvous hashing by weight).
    ClientHash,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// `host:port`; a name is resolved at each connect.
    pub address: Arc<str>,
    /// Share of the requests; default 1; 1 to 1,000.
    pub weight: u32,
}

/// One pool of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// How routes name it.
    pub name: Arc<str>,
    /// 1 to 256.
    pub servers: Vec<Server>,
    /// `two-choices` (the default), `round-robin` or `client-hash`.
    pub balance: Balance,
    /// For the TCP connect; default 2 s; 10 ms to 1 min. Past it the next server is tried, then 504.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the response; default 60 s; 10 ms to 1 h. Past it: 504.
    pub response_timeout: Duration,
    /// Longest pause within a response body; default 60 s; 10 ms to 1 h. Past it the response is cut.
    pub read_timeout: Duration,
    /// How long an unused connection is kept; default 15 s; 10 ms to 1 h. Keep it below the server's own.
    pub idle_timeout: Duration,
    /// Unused connections kept for each server by each worker; default 64; 0 to 4,096. Further ones are closed.
    pub max_idle: u64,
    /// Requests in flight for each server; default 4,096; 1 to 1,000,000. With all servers full: 503.
    pub max_connections: u64,
    /// Failures in a row after which a server is left out; default 3; 0 (never) to 1,000.
    pub max_failures: u64,
    /// `http1` (the default) or `http2`.
    pub protocol: Protocol,
    /// TLS to the servers; default: none.
    pub tls: Option<UpstreamTls>,
    /// Active checks; default: none. An only server is asked even when its checks fail.
    pub health_check: Option<HealthCheck>,
    /// How long it is left out; default 10 s; 10 ms to 1 h.
    pub failure_pause: Duration,
}

const SHORT: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_hours(1);

pub(super) fn check(raw: Vec<RawUpstream>, base: &Base, problems: &mut Problems<'_>) -> Vec<Upstream> {
    if raw.len() > MAX_UPSTREAMS {
        problems.whole(format!("there are {} upstreams; at most {MAX_UPSTREAMS} are possible.", raw.len()));
    }
    let mut names = Vec::new();
    raw.into_iter().enumerate().map(|(i, raw)| one(i, raw, &mut names, base, problems)).collect()
}

fn one(i: usize, raw: RawUpstream, names: &mut Vec<String>, base: &Base, p: &mut Problems<'_>) -> Upstream {
    let secs = Duration::from_secs;
    let named = raw.name.as_ref().map(Spanned::span);
    let name = bounds::name("upstream", raw.name, format!("upstream-{}", i + 1), names, p);
    let servers = match raw.servers {
        Some(list) => {
            if list.get_ref().is_empty() || list.get_ref().len() > MAX_SERVERS {
                p.at(list.span(), format!("`servers` holds 1 to {MAX_SERVERS} servers."));
            }
            list.into_inner().into_iter().map(|s| server(s, p)).collect()
        }
        None => {
            let message = format!("upstream `{name}` has no `servers`: write [\"127.0.0.1:8080\"] or such.");
            match named {
                Some(span) => p.at(span, message),
                None => p.whole(message),
            }
            Vec::new()
        }
    };
    Upstream {
        name,
        servers,
        balance: raw.balance,
        connect_timeout: bounds::duration(
            "connect_timeout",
            raw.connect_timeout,
            secs(2),
            SHORT..=Duration::from_mins(1),
            p,
        ),
        response_timeout: bounds::duration(
            "response_timeout",
            raw.response_timeout,
            secs(60),
            SHORT..=HOUR,
            p,
        ),
        read_timeout: bounds::duration("read_timeout", raw.read_timeout, secs(60), SHORT..=HOUR, p),
        idle_timeout: bounds::duration("idle_timeout", raw.idle_timeout, secs(15), SHORT..=HOUR, p),
        max_idle: bounds::number("max_idle", raw.max_idle, 64, 0..=4096, p),
        max_connections: bounds::number("max_connections", raw.max_connections, 4096, 1..=1_000_000, p),
        max_failures: bounds::number("max_failures", raw.max_failures, 3, 0..=1000, p),
        protocol: raw.protocol,
        tls: raw.tls.map(|t| tls(t, base, p)),
        health_check: raw.health_check.map(|h| health_check(h, p)),
        failure_pause: bounds::duration("failure_pause", raw.failure_pause, secs(10), SHORT..=HOUR, p),
    }
}

fn server(raw: Spanned<RawServer>, problems: &mut Problems<'_>) -> Server {
    let span = raw.span();
    let (address, weight) = match raw.into_inner() {
        RawServer::Address(address) => (address, None),
        RawServer::Weighted { address, weight } => (address, weight),
    };
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.len() <= 255 && port.parse::<u16>().is_ok_and(|p| p != 0)
    });
    if !good {
        problems.at(span.clone(), "a server's address is host:port, such as 10.0.0.1:8080 or [::1]:8080.");
    }
    let weight = match weight.unwrap_or(1) {
        n @ 1..=1000 => n as u32,
        _ => {
            problems.at(span, "`weight` must be from 1 to 1000; the default is 1.");
            1
        }
    };
    Server { address: address.into(), weight }
}

fn tls(raw: RawUpstreamTls, base: &Base, problems: &mut Problems<'_>) -> UpstreamTls {
    let certificate = raw.certificate.and_then(|certificate| match &raw.key_file {
        Some(key) => Some(Certificate {
            certificate: base.path(certificate.get_ref()),
            key_file: base.path(key),
            ocsp_file: None,
        }),
        None => {
            problems.at(certificate.span(), "`certificate` needs `key_file`, the PEM file of its key.");
            None
        }
    });
    let server_name = raw.server_name.map(|name| {
        if rustls::pki_types::ServerName::try_from(name.get_ref().as_str()).is_err() {
            problems.at(name.span(), "`server_name` must be a DNS name or an IP address.");
        }
        name.into_inner()
    });
    UpstreamTls { ca: raw.ca.map(|f| base.path(&f)), server_name, certificate }
}

fn health_check(raw: RawHealthCheck, p: &mut Problems<'_>) -> HealthCheck {
    let text =
        |value: Option<Spanned<String>>, good: fn(&str) -> bool, message: &str, p: &mut Problems<'_>| {
            value.map(|v| {
                if !good(v.get_ref()) || v.get_ref().bytes().any(|b| !b.is_ascii_graphic()) {
                    p.at(v.span(), message);
                }
                v.into_inner()
            })
        };
    let path = text(raw.path, |v| v.starts_with('/'), "`path` starts with `/` and holds no blanks.", p);
    let host = text(raw.host, |v| !v.is_empty(), "`host` must be a host, with a port where needed.", p);
    let second = Duration::from_secs(1);
    HealthCheck {
        path: path.unwrap_or_else(|| "/".to_owned()),
        host,
        interval: bounds::duration("interval", raw.interval, 5 * second, second..=HOUR, p),
        timeout: bounds::duration("timeout", raw.timeout, 2 * second, SHORT..=Duration::from_mins(1), p),
        healthy_after: bounds::number("healthy_after", raw.healthy_after, 2, 1..=100, p),
        unhealthy_after: bounds::number("unhealthy_after", raw.unhealthy_after, 3, 1..=100, p),
    }
}
