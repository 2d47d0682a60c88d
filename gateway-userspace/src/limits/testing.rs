//! Requests for tests.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::request::LimitRequest;
use super::window::Nanos;
use crate::client::ClientId;

/// The time at which tests begin.
pub(super) const START: Nanos = 1_700_000_000_000_000_000;
/// Nanoseconds of a second.
pub(super) const SECOND: Nanos = 1_000_000_000;

/// An owned request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    client: ClientId,
    route: String,
    host: String,
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    ja4: Option<String>,
    certificate: Option<String>,
    country: Option<[u8; 2]>,
    asn: Option<u32>,
    now: Nanos,
}

impl Asked {
    pub(super) fn from(addr: &str) -> Self {
        Self {
            client: ClientId::direct(addr.parse().expect("address")),
            route: "main".into(),
            host: "example.org".into(),
            method: Method::GET,
            path: "/".into(),
            query: String::new(),
            headers: HeaderMap::new(),
            ja4: None,
            certificate: None,
            country: None,
            asn: None,
            now: START,
        }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("header name");
        self.headers.append(name, HeaderValue::try_from(value).expect("header value"));
        self
    }

    pub(super) fn path(mut self, path: &str, query: &str) -> Self {
        (self.path, self.query) = (path.into(), query.into());
        self
    }

    pub(super) fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub(super) fn route(mut self, route: &str) -> Self {
        self.route = route.into();
        self
    }

    pub(super) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(super) fn tls(mut self, ja4: &str, certificate: &str) -> Self {
        (self.ja4, self.certificate) = (Some(ja4.into()), Some(certificate.into()));
        self
    }

    pub(super) fn place(mut self, country: &[u8; 2], asn: u32) -> Self {
        (self.country, self.asn) = (Some(*country), Some(asn));
        self
    }

    pub(super) fn at(mut self, since_start: Nanos) -> Self {
        self.now = START + since_start;
        self
    }

    pub(super) fn behind(mut self, proxy: &str) -> Self {
        self.client = ClientId::behind(proxy.parse().expect("address"), self.client.addr());
        self
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&LimitRequest<'_>) -> R) -> R {
        f(&self.borrow())
    }

    pub(super) fn borrow(&self) -> LimitRequest<'_> {
        LimitRequest {
            client: self.client,
            route: &self.route,
            host: &self.host,
            method: &self.method,
            path: &self.path,
            query: Some(self.query.as_str()),
            headers: &self.headers,
            ja4: self.ja4.as_deref(),
            certificate: self.certificate.as_deref(),
            country: self.country,
            asn: self.asn,
            now: self.now,
        }
    }
}
