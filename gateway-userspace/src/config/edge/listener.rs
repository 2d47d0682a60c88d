//! `[[listeners]]`: where connections come in.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::bounds;
use crate::config::Problems;

/// Most listeners.
pub const MAX_LISTENERS: usize = 64;
/// Bounds of `max_connections`, for one listener and in total.
pub const MAX_CONNECTIONS: u64 = 1_000_000;

/// `[[listeners]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawListener {
    name: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    tls: bool,
    proxy_protocol: ProxyProtocol,
    max_connections: Option<Spanned<u64>>,
    redirect_to_https: Option<Spanned<u16>>,
}

/// Whether connections begin with a PROXY protocol header. It is never guessed: a guess lets any
/// client name any address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// No header is read; one that comes is broken HTTP or TLS, and refused as such.
    #[default]
    Off,
    /// Each connection begins with a version 1 or 2 header from a peer in `[client] trusted_proxies`;
    /// any other connection is closed.
    Required,
}

/// One listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Default `listener-N`.
    pub name: Arc<str>,
    /// Address and port.
    pub address: SocketAddr,
    /// TLS with the certificates of `[tls]`; default false.
    pub tls: bool,
    /// Default off.
    pub proxy_protocol: ProxyProtocol,
    /// Open connections on this listener; default 10,000; 1 to 1,000,000. Further ones are closed at once.
    pub max_connections: u64,
    /// Every request is answered with 308 to `https` on this port; default: none. Not with `tls`.
    pub redirect_to_https: Option<u16>,
}

pub(super) fn check(raw: Vec<RawListener>, problems: &mut Problems<'_>) -> Vec<Listener> {
    if raw.is_empty() {
        return defaults();
    }
    if raw.len() > MAX_LISTENERS {
        problems.whole(format!("there are {} listeners; at most {MAX_LISTENERS} are possible.", raw.len()));
    }
    let mut names = Vec::new();
    let mut listeners: Vec<Listener> = Vec::with_capacity(raw.len());
    for (i, raw) in raw.into_iter().enumerate() {
        let named = raw.name.as_ref().map(Spanned::span);
        let name = bounds::name("listener", raw.name, format!("listener-{}", i + 1), &mut names, problems);
        let address = match raw.address {
            None => {
                let message =
                    format!("listener `{name}` has no `address`: write one such as \"0.0.0.0:8443\".");
                match named {
                    Some(span) => problems.at(span, message),
                    None => problems.whole(message),
                }
                continue;
            }
            Some(a) => match a.get_ref().parse::<SocketAddr>() {
                Ok(address) => {
                    if listeners.iter().any(|l| l.address == address && address.port() != 0) {
                        problems.at(a.span(), format!("another listener is at {address} already."));
                    }
                    address
                }
                Err(_) => {
                    problems.at(
                        a.span(),
                        "`address` must be an IP address and port such as 0.0.0.0:8443 or [::]:8443.",
                    );
                    continue;
                }
            },
        };
        let redirect_to_https = raw.redirect_to_https.map(|port| {
            if raw.tls || *port.get_ref() == 0 {
                problems.at(
                    port.span(),
                    "`redirect_to_https` is a port from 1, on a listener without `tls`: leave it out here.",
                );
            }
            port.into_inner()
        });
        listeners.push(Listener {
            name,
            address,
            tls: raw.tls,
            proxy_protocol: raw.proxy_protocol,
            max_connections: bounds::number(
                "max_connections",
                raw.max_connections,
                10_000,
                1..=MAX_CONNECTIONS,
                problems,
            ),
            redirect_to_https,
        });
    }
    listeners
}

/// Plain HTTP on 8080 and TLS on 8443, on every address.
fn defaults() -> Vec<Listener> {
    let listener = |name: &str, port: u16, tls: bool| Listener {
        name: name.into(),
        address: SocketAddr::from(([0, 0, 0, 0], port)),
        tls,
        proxy_protocol: ProxyProtocol::Off,
        max_connections: 10_000,
        redirect_to_https: None,
    };
    vec![listener("http", 8080, false), listener("https", 8443, true)]
}
