//! What a configuration compiles to, swapped as a whole by a reload.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_waf::Ruleset;
use http::Method;

use super::router::Router;
use crate::client::Trust;
use crate::config;
use crate::listen::{ClientAuthority, TlsError};
use crate::upstream::{UpstreamTlsError, Upstreams};

/// Everything that requests are judged and sent by.
#[derive(Debug)]
pub struct Site {
    /// Whom to believe about a client's address.
    pub trust: Trust,
    /// The `[http]` section.
    pub http: config::edge::Http,
    /// The servers.
    pub upstreams: Upstreams,
    pub(super) rules: HttpRules,
    pub(super) router: Router,
    pub(super) waf: config::waf::Mode,
    /// The rules, swapped with the routes whose policies they know.
    pub(super) ruleset: Arc<Ruleset>,
    pub(super) client_headers: config::edge::ClientHeaders,
    /// By the route's name, where it has its own.
    pub(super) authorities: HashMap<Arc<str>, ClientAuthority>,
}

/// Why a configuration can't be put in force.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The TLS settings of an upstream.
    #[error(transparent)]
    Upstream(#[from] UpstreamTlsError),
    /// The authority of a route.
    #[error(transparent)]
    Authority(#[from] TlsError),
}

/// What every request must keep to.
#[derive(Debug)]
pub(super) struct HttpRules {
    pub(super) methods: Vec<Method>,
    /// For `Allow`.
    pub(super) allow: Arc<str>,
    pub(super) hosts: Vec<String>,
    pub(super) merge_slashes: bool,
}

impl Site {
    /// Compiles a configuration for `workers` workers; upstreams that didn't change keep their connections.
    ///
    /// # Errors
    /// When the TLS settings of an upstream or a route can't be used.
    pub fn new(
        edge: &config::edge::Edge,
        waf: config::waf::Mode,
        ruleset: Arc<Ruleset>,
        workers: usize,
        before: Option<&Self>,
    ) -> Result<Self, SiteError> {
        let none = Upstreams::default();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut authorities = HashMap::new();
        for route in &edge.routes {
            if let Some(file) = &route.clients.ca {
                authorities.insert(Arc::clone(&route.name), ClientAuthority::load(file, &provider)?);
            }
        }
        Ok(Self {
            trust: Trust::new(edge.client.trusted_proxies.clone(), edge.client.forwarded_header),
            http: edge.http.clone(),
            upstreams: Upstreams::build(&edge.upstreams, workers, before.map_or(&none, |b| &b.upstreams))?,
            rules: HttpRules::new(&edge.http),
            router: Router::new(&edge.routes),
            waf,
            ruleset,
            client_headers: edge.tls.client_headers.clone(),
            authorities,
        })
    }
}

impl HttpRules {
    fn new(http: &config::edge::Http) -> Self {
        Self {
            methods: http.methods.iter().filter_map(|m| m.parse().ok()).collect(),
            allow: http.methods.join(", ").into(),
            hosts: http.hosts.clone(),
            merge_slashes: http.merge_slashes,
        }
    }

    /// Whether a host is in the list.
    pub(super) fn serves(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
            None => pattern == host,
            Some(parent) => host.strip_suffix(parent).is_some_and(|h| h.len() > 1 && h.ends_with('.')),
        })
    }

    #[cfg(test)]
    pub(super) fn for_tests(hosts: &[&str]) -> Self {
        Self {
            methods: vec![Method::GET, Method::POST, Method::OPTIONS],
            allow: "GET, POST, OPTIONS".into(),
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            merge_slashes: true,
        }
    }
}
