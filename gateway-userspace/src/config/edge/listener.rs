//! `[[listeners]]`: where connections come in.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::tls::{ClientAuth, ClientCertificates};
use super::{Tls, bounds};
use crate::config::{Base, Problems};

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
    client_auth: Option<Spanned<ClientAuth>>,
    client_ca: Option<Spanned<String>>,
    http3: Option<Spanned<bool>>,
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
    /// Whether clients show a certificate; default what `[tls]` says. Off without `tls`.
    pub clients: ClientCertificates,
    /// HTTP/3 on the UDP port of the same number, told to clients by `Alt-Svc`; default false. Only with `tls`.
    pub http3: bool,
}

pub(super) fn check(
    raw: Vec<RawListener>,
    tls: &Tls,
    base: &Base,
    problems: &mut Problems<'_>,
) -> Vec<Listener> {
    if raw.is_empty() {
        return defaults(tls);
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
        let clients = clients(raw.tls, raw.client_auth, raw.client_ca, tls, base, problems);
        let http3 = raw.http3.is_some_and(|on| {
            if *on.get_ref() && (!raw.tls || raw.proxy_protocol == ProxyProtocol::Required) {
                problems.at(on.span(), "`http3` needs `tls`, and goes without `proxy_protocol`.");
            }
            on.into_inner()
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
            clients,
            http3,
        });
    }
    listeners
}

/// Whether clients show a certificate on a listener: its own word, else that of `[tls]`.
fn clients(
    has_tls: bool,
    auth: Option<Spanned<ClientAuth>>,
    ca: Option<Spanned<String>>,
    tls: &Tls,
    base: &Base,
    problems: &mut Problems<'_>,
) -> ClientCertificates {
    if !has_tls {
        for span in auth.iter().map(Spanned::span).chain(ca.iter().map(Spanned::span)) {
            problems.at(span, "clients show certificates over TLS only: set `tls`, or leave this out.");
        }
        return ClientCertificates::default();
    }
    let span = auth.as_ref().map(Spanned::span);
    let clients = ClientCertificates {
        auth: auth.map_or(tls.clients.auth, Spanned::into_inner),
        ca: ca.map(|ca| base.path(ca.get_ref())).or_else(|| tls.clients.ca.clone()),
    };
    if let (None, Some(span)) = (&clients.ca, span)
        && clients.auth != ClientAuth::Off
    {
        problems.at(span, "`client_auth` needs `client_ca`, here or in [tls].");
    }
    clients
}

/// Plain HTTP on 8080 and TLS on 8443, on every address.
fn defaults(tls: &Tls) -> Vec<Listener> {
    let listener = |name: &str, port: u16, has_tls: bool| Listener {
        name: name.into(),
        address: SocketAddr::from(([0, 0, 0, 0], port)),
        tls: has_tls,
        proxy_protocol: ProxyProtocol::Off,
        max_connections: 10_000,
        redirect_to_https: None,
        clients: if has_tls { tls.clients.clone() } else { ClientCertificates::default() },
        http3: false,
    };
    vec![listener("http", 8080, false), listener("https", 8443, true)]
}
