//! What a route adds to responses: security headers, CORS.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::bounds;
use super::http::methods;
use crate::config::{Problems, Span};

/// Most origins of one route.
pub const MAX_ORIGINS: usize = 1024;

/// `[routes.cors]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCors {
    origins: Option<Spanned<Vec<String>>>,
    methods: Option<Spanned<Vec<String>>>,
    headers: Option<Spanned<Vec<String>>>,
    credentials: bool,
    max_age: Option<Spanned<Span>>,
}

/// Which security headers responses get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityProfile {
    /// None.
    Off,
    /// `X-Content-Type-Options: nosniff`, `X-Frame-Options: SAMEORIGIN`,
    /// `Referrer-Policy: strict-origin-when-cross-origin`: no site needs changes for these.
    #[default]
    Standard,
    /// A strict policy for each: HSTS for a year with subdomains (over TLS), `Content-Security-Policy:
    /// default-src 'self'; ...`, `X-Frame-Options: DENY`, `Referrer-Policy: no-referrer`, `Permissions-Policy`,
    /// `Cross-Origin-Opener-Policy: same-origin`.
    Strict,
}

/// Cross-origin requests that are allowed (the Fetch standard's CORS protocol). The gateway answers preflights
/// itself, and the server's own CORS fields are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Exact origins, such as `https://app.example.com`; 1 to 1,024. Others get no CORS fields.
    pub origins: Vec<String>,
    /// Methods that are allowed; default GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS.
    pub methods: Vec<String>,
    /// Request headers that are allowed beyond the safelisted ones; default none.
    pub headers: Vec<String>,
    /// Whether cookies and credentials are allowed; default false.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight; default 1 h; 0 to 1 day.
    pub max_age: Duration,
}

pub(super) fn check(raw: RawCors, problems: &mut Problems<'_>) -> Cors {
    let origins = match raw.origins {
        None => {
            problems.whole("[routes.cors] needs `origins`, such as [\"https://app.example.com\"].");
            Vec::new()
        }
        Some(list) => {
            let good = |o: &String| {
                o.split_once("://").is_some_and(|(scheme, host)| {
                    matches!(scheme, "http" | "https")
                        && !host.is_empty()
                        && host.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
                        && !host.contains(['/', '*', ','])
                })
            };
            if !(1..=MAX_ORIGINS).contains(&list.get_ref().len()) || !list.get_ref().iter().all(good) {
                problems.at(
                    list.span(),
                    format!(
                        "`origins` holds 1 to {MAX_ORIGINS} exact origins in lower case, such as \
                         https://app.example.com: no path, no `*`."
                    ),
                );
            }
            list.into_inner()
        }
    };
    let headers = raw.headers.map_or_else(Vec::new, |list| {
        let good = |h: &String| h.parse::<http::HeaderName>().is_ok();
        if list.get_ref().len() > 64 || !list.get_ref().iter().all(good) {
            problems.at(list.span(), "`headers` holds at most 64 header names.");
        }
        list.into_inner()
    });
    Cors {
        origins,
        methods: methods(raw.methods, problems),
        headers,
        credentials: raw.credentials,
        max_age: bounds::duration(
            "max_age",
            raw.max_age,
            Duration::from_hours(1),
            Duration::ZERO..=Duration::from_hours(24),
            problems,
        ),
    }
}
