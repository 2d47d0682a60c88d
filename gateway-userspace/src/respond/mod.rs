//! Every refusal becomes one answer, here and nowhere else.

pub mod cors;
mod denial;
mod page;
mod security;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{Method, StatusCode};

pub use denial::{Challenged, Denial};
pub use security::secure;

use crate::upstream::Upgraded;
use crate::wire::Body;

/// The field that carries a request's id, to the server and to the client.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a client gets.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The fields, without those of one connection and without the length.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// The server's connection, when it switched protocols (status 101).
    pub upgraded: Option<Upgraded>,
    /// What becomes of the client's connection.
    pub connection: Afterwards,
}

/// What becomes of a connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It may carry further requests.
    Keep,
    /// It is closed after the reply.
    Close,
    /// It is closed without the reply.
    Drop,
}

/// What of a request decides the form of a refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The method; none when not even that was read.
    pub method: Option<&'a Method>,
    /// `Accept`.
    pub accept: Option<&'a HeaderValue>,
    /// The request's id.
    pub request_id: Option<&'a HeaderValue>,
}

impl Asked<'_> {
    /// `Accept` of these fields.
    pub fn accept_of(headers: &HeaderMap) -> Option<&HeaderValue> {
        headers.get(ACCEPT)
    }
}

/// The answer to a refused request. Nothing of the inside shows: a code to look up, the request's id to
/// find it in the logs by.
pub fn refuse(denial: &Denial, asked: Asked<'_>) -> Reply {
    let status = denial.status();
    let mut headers = HeaderMap::with_capacity(8);
    let id = asked.request_id.and_then(|id| id.to_str().ok()).unwrap_or("");
    let body = if asked.accept.is_some_and(wants_html) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        page::html(status, denial.code(), denial.message(), id)
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        page::json(status, denial.code(), denial.message(), id, denial.limit())
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Some(id) = asked.request_id {
        headers.insert(&REQUEST_ID, id.clone());
    }
    if let Some(seconds) = denial.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in denial.fields() {
        headers.append(name, value);
    }
    if let Denial::Method { allow } = denial
        && let Ok(value) = HeaderValue::from_str(allow)
    {
        headers.insert(ALLOW, value);
    }
    if let Some(location) = denial.location() {
        headers.insert(LOCATION, location);
    }
    let connection = denial.afterwards();
    let body = if asked.method == Some(&Method::HEAD) { Body::Empty } else { Body::Full(Bytes::from(body)) };
    Reply { status, headers, body, upgraded: None, connection }
}

/// Whether this `Accept` is of somebody who shows pages.
pub fn wants_html(accept: &HeaderValue) -> bool {
    memchr::memmem::find(accept.as_bytes(), b"text/html").is_some()
}

#[cfg(test)]
mod tests;
