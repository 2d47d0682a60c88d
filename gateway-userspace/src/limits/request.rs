//! What a limit looks at in a request and in its answer.

use http::{HeaderMap, Method};

use super::window::Nanos;
use crate::client::ClientId;

/// A request, as far as limits look at it.
#[derive(Debug, Clone, Copy)]
pub struct LimitRequest<'a> {
    /// Who.
    pub client: ClientId,
    /// The name of the route.
    pub route: &'a str,
    /// The host asked for, without a port.
    pub host: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path, percent-encoded as it came or normalised.
    pub path: &'a str,
    /// The query, without its question mark.
    pub query: Option<&'a str>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The JA4 fingerprint of the TLS hello.
    pub ja4: Option<&'a str>,
    /// The subject of the client's certificate, where it was verified.
    pub certificate: Option<&'a str>,
    /// The country of the client's address: two letters (ISO 3166-1).
    pub country: Option<[u8; 2]>,
    /// The autonomous system of the client's address.
    pub asn: Option<u32>,
    /// Now.
    pub now: Nanos,
}

impl<'a> LimitRequest<'a> {
    /// A `GET /` of this client on a route and a host without a name, of which nothing else is known.
    pub fn of(client: ClientId, headers: &'a HeaderMap, now: Nanos) -> Self {
        Self {
            client,
            route: "",
            host: "",
            method: &Method::GET,
            path: "/",
            query: None,
            headers,
            ja4: None,
            certificate: None,
            country: None,
            asn: None,
            now,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.get(name).map(http::HeaderValue::as_bytes).filter(|v| !v.is_empty())
    }

    /// RFC 6265, section 4.2.1; the first of several cookies of a name.
    pub(super) fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let pairs = self.headers.get_all(http::header::COOKIE).into_iter();
        let mut pairs = pairs.flat_map(|v| v.as_bytes().split(|b| *b == b';'));
        pairs.find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(value).filter(|v| !v.is_empty())
        })
    }

    pub(super) fn argument(&self, name: &str) -> Option<&'a [u8]> {
        let mut pairs = self.query?.split('&');
        pairs.find_map(|pair| {
            let value = pair.strip_prefix(name)?.strip_prefix('=')?;
            Some(value.as_bytes()).filter(|v| !v.is_empty())
        })
    }
}

/// What came of a request that was let through.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The status of the answer.
    pub status: u16,
    /// The headers of the origin's answer.
    pub headers: &'a HeaderMap,
}
