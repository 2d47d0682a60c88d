//! Whatever the gateway refuses, by whose fault and with which status.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::Afterwards;
use crate::client::ForwardedError;
use crate::inspect::WafDenial;
use crate::upstream::UpstreamError;
use crate::wire::{BodyError, FramingError, HeadError, NominationError};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The head is not HTTP as we take it.
    Head(HeadError),
    /// The body's length is not clear.
    Framing(FramingError),
    /// `Connection` names what it may not.
    Nomination(NominationError),
    /// The target, the host or a field breaks a rule; the code says which.
    Request(&'static str),
    /// The body broke off, was too long or too slow.
    Body(BodyError),
    /// The head took too long.
    SlowHead,
    /// The method is not let through; the ones that are.
    Method {
        /// For `Allow`.
        allow: Arc<str>,
    },
    /// `Expect` wants what we don't do.
    Expectation,
    /// The host is not served here, or not under the handshake's name.
    Misdirected,
    /// No route takes it.
    NoRoute,
    /// A trusted proxy forwarded nonsense.
    Forwarded(ForwardedError),
    /// The route wants a certificate that the client hasn't shown; the code says which.
    Certificate(&'static str),
    /// The client is banned.
    Banned {
        /// Seconds until the ban ends, where it does.
        retry_after: Option<u64>,
    },
    /// The client is to show that it means well.
    Challenged {
        /// Where; none: it is refused.
        path: Option<Arc<str>>,
    },
    /// A rate limit is reached.
    Limited {
        /// The limit's name.
        limit: Arc<str>,
        /// Seconds until it may be tried again.
        retry_after: u64,
        /// `RateLimit` fields and their like.
        fields: Vec<(HeaderName, HeaderValue)>,
        /// Where the client is challenged, if it is.
        challenge: Option<Challenged>,
    },
    /// The rules refuse.
    Waf(WafDenial),
    /// No server answered.
    Upstream(UpstreamError),
    /// The request as a whole took too long.
    Total,
    /// The gateway has too much to do.
    Overload,
    /// Plain HTTP is redirected to this place.
    Secure {
        /// `https://...`.
        location: HeaderValue,
    },
}

/// How a client is told of a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenged {
    /// Where it is.
    pub location: HeaderValue,
    /// Whether the client is sent there; else the answer is 429 and names it.
    pub redirects: bool,
}

/// Names the challenge to a client that is not sent there.
const CHALLENGE: HeaderName = HeaderName::from_static("x-gateway-challenge");

impl Denial {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Head(HeadError::TooLarge | HeadError::TooMany) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Head(HeadError::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Head(HeadError::Version) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Framing(FramingError::Encoding) => StatusCode::NOT_IMPLEMENTED,
            Self::Head(_)
            | Self::Framing(_)
            | Self::Nomination(_)
            | Self::Request(_)
            | Self::Forwarded(_) => StatusCode::BAD_REQUEST,
            Self::Body(e) => body_status(*e),
            Self::SlowHead => StatusCode::REQUEST_TIMEOUT,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Challenged { path: Some(_) } => StatusCode::SEE_OTHER,
            Self::Banned { .. } | Self::Challenged { path: None } | Self::Certificate(_) => {
                StatusCode::FORBIDDEN
            }
            Self::Limited { challenge: Some(Challenged { redirects: true, .. }), .. } => StatusCode::FOUND,
            Self::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Waf(WafDenial::Deny { status, .. } | WafDenial::Redirect { status, .. }) => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN)
            }
            Self::Waf(WafDenial::Drop { .. }) => StatusCode::FORBIDDEN,
            Self::Waf(WafDenial::Body(e)) => body_status(*e),
            Self::Waf(WafDenial::Overload) | Self::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream(e) => match e {
                UpstreamError::Unhealthy | UpstreamError::Full | UpstreamError::Exhausted => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                UpstreamError::ConnectTimeout | UpstreamError::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
                UpstreamError::RequestBody(e) => body_status(*e),
                UpstreamError::Connect
                | UpstreamError::Unresolved
                | UpstreamError::Handshake
                | UpstreamError::Closed
                | UpstreamError::Malformed(_)
                | UpstreamError::Framing(_)
                | UpstreamError::Unexpected => StatusCode::BAD_GATEWAY,
            },
            Self::Total => StatusCode::GATEWAY_TIMEOUT,
            Self::Secure { .. } => StatusCode::PERMANENT_REDIRECT,
        }
    }

    /// The code that logs and clients see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Head(e) => match e {
                HeadError::TooLarge => "header_too_large",
                HeadError::TooMany => "too_many_headers",
                HeadError::TargetTooLong => "uri_too_long",
                HeadError::Version => "http_version",
                HeadError::BareLf => "bare_lf",
                HeadError::Folded => "folded_header",
                HeadError::FirstLine => "request_line",
                HeadError::Method => "method_syntax",
                HeadError::Target => "target_syntax",
                HeadError::Name => "header_name",
                HeadError::Value => "header_value",
            },
            Self::Framing(e) => match e {
                FramingError::Both => "two_lengths",
                FramingError::Length => "content_length",
                FramingError::Encoding | FramingError::OldEncoding => "transfer_encoding",
            },
            Self::Nomination(_) => "connection_header",
            Self::Request(code) | Self::Certificate(code) => code,
            Self::Body(e) | Self::Waf(WafDenial::Body(e)) => body_code(*e),
            Self::SlowHead => "header_timeout",
            Self::Method { .. } => "method_not_allowed",
            Self::Expectation => "expectation",
            Self::Misdirected => "misdirected",
            Self::NoRoute => "no_route",
            Self::Forwarded(_) => "forwarded_header",
            Self::Banned { .. } => "banned",
            Self::Challenged { .. } => "challenge",
            Self::Limited { .. } => "rate_limited",
            Self::Waf(WafDenial::Overload) | Self::Overload => "overload",
            Self::Waf(_) => "waf",
            Self::Upstream(e) => match e {
                UpstreamError::Unhealthy => "upstream_unhealthy",
                UpstreamError::Full => "upstream_full",
                UpstreamError::Exhausted => "overload",
                UpstreamError::Unresolved => "upstream_name",
                UpstreamError::Connect => "upstream_connect",
                UpstreamError::Handshake => "upstream_handshake",
                UpstreamError::ConnectTimeout => "upstream_connect_timeout",
                UpstreamError::ResponseTimeout => "upstream_timeout",
                UpstreamError::Closed => "upstream_closed",
                UpstreamError::Malformed(_) | UpstreamError::Framing(_) | UpstreamError::Unexpected => {
                    "upstream_malformed"
                }
                UpstreamError::RequestBody(e) => body_code(*e),
            },
            Self::Total => "total_timeout",
            Self::Secure { .. } => "https_only",
        }
    }

    /// What a person reads; the same for everything that a status stands for.
    pub(super) fn message(&self) -> &'static str {
        match self.status().as_u16() {
            300..=399 => "This page has moved.",
            403 => "The request was refused.",
            404 => "There is nothing here.",
            405 => "The method is not allowed here.",
            408 => "The request took too long to arrive.",
            413 => "The request's body is too large.",
            414 => "The address is too long.",
            421 => "This host is not served here.",
            429 => "Too many requests. Please try again later.",
            431 => "The request's headers are too large.",
            502 => "The server behind this address didn't give a valid answer.",
            503 => "The service is not available now. Please try again later.",
            504 => "The server behind this address didn't answer in time.",
            400..=499 => "The request can't be understood.",
            _ => "The request can't be answered.",
        }
    }

    /// The name of the rate limit that refused.
    pub(super) fn limit(&self) -> Option<&str> {
        match self {
            Self::Limited { limit, .. } => Some(limit),
            _ => None,
        }
    }

    /// Seconds for `Retry-After`.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Banned { retry_after } => *retry_after,
            Self::Limited { retry_after, .. } => Some(*retry_after),
            Self::Overload
            | Self::Waf(WafDenial::Overload)
            | Self::Upstream(UpstreamError::Unhealthy | UpstreamError::Full | UpstreamError::Exhausted) => {
                Some(1)
            }
            _ => None,
        }
    }

    /// Whether the peer broke HTTP, which is an offence.
    pub fn is_protocol_fault(&self) -> bool {
        matches!(
            self,
            Self::Head(_)
                | Self::Framing(_)
                | Self::Nomination(_)
                | Self::Request(_)
                | Self::Body(BodyError::Malformed)
        )
    }

    /// Whether the peer was too slow, which is an offence.
    pub fn is_slow(&self) -> bool {
        let slow = BodyError::Slow;
        *self == Self::SlowHead
            || *self == Self::Body(slow)
            || *self == Self::Waf(WafDenial::Body(slow))
            || *self == Self::Upstream(UpstreamError::RequestBody(slow))
    }

    pub(super) fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::Limited { fields, challenge, .. } => {
                let told = challenge.as_ref().filter(|to| !to.redirects);
                fields.iter().cloned().chain(told.map(|to| (CHALLENGE, to.location.clone()))).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn location(&self) -> Option<HeaderValue> {
        match self {
            Self::Secure { location } => Some(location.clone()),
            Self::Limited { challenge: Some(Challenged { location, redirects: true }), .. } => {
                Some(location.clone())
            }
            Self::Waf(WafDenial::Redirect { location, .. }) => HeaderValue::from_str(location).ok(),
            Self::Challenged { path } => HeaderValue::from_str(path.as_deref()?).ok(),
            _ => None,
        }
    }

    /// After a message that was not understood the next one can't be found.
    pub(super) fn afterwards(&self) -> Afterwards {
        match self {
            Self::Waf(WafDenial::Drop { .. }) => Afterwards::Drop,
            Self::Head(_)
            | Self::Framing(_)
            | Self::Nomination(_)
            | Self::Request(_)
            | Self::Body(_)
            | Self::SlowHead
            | Self::Expectation
            | Self::Overload
            | Self::Waf(WafDenial::Body(_) | WafDenial::Overload)
            | Self::Upstream(UpstreamError::RequestBody(_))
            | Self::Banned { .. } => Afterwards::Close,
            _ => Afterwards::Keep,
        }
    }
}

fn body_status(error: BodyError) -> StatusCode {
    match error {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Slow => StatusCode::REQUEST_TIMEOUT,
        BodyError::Total => StatusCode::GATEWAY_TIMEOUT,
        BodyError::Malformed | BodyError::Closed | BodyError::Refused => StatusCode::BAD_REQUEST,
    }
}

fn body_code(error: BodyError) -> &'static str {
    match error {
        BodyError::TooLarge => "body_too_large",
        BodyError::Slow => "body_timeout",
        BodyError::Total => "total_timeout",
        BodyError::Malformed => "body_framing",
        BodyError::Closed => "client_closed",
        BodyError::Refused => "waf",
    }
}
