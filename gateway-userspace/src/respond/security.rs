//! Security headers, by profile.

use http::header::{
    CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use crate::config::edge::SecurityProfile;

static PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
static OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

static STANDARD: [(&HeaderName, HeaderValue); 3] = [
    (&X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (&X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    (&REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
];

static STRICT: [(&HeaderName, HeaderValue); 6] = [
    (&X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (&X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (&REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        &CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
        ),
    ),
    (
        &PERMISSIONS_POLICY,
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
    (&OPENER_POLICY, HeaderValue::from_static("same-origin")),
];

static HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

/// Adds the profile's fields. The server's own stay, unless `overrides`.
pub fn secure(headers: &mut HeaderMap, profile: SecurityProfile, is_tls: bool, overrides: bool) {
    let fields: &[(&HeaderName, HeaderValue)] = match profile {
        SecurityProfile::Off => return,
        SecurityProfile::Standard => &STANDARD,
        SecurityProfile::Strict => &STRICT,
    };
    let mut set = |name: &HeaderName, value: &HeaderValue| {
        if overrides {
            headers.insert(name, value.clone());
        } else {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    };
    for (name, value) in fields {
        set(name, value);
    }
    if profile == SecurityProfile::Strict && is_tls {
        set(&STRICT_TRANSPORT_SECURITY, &HSTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        for (profile, is_tls, overrides, frame, csp, hsts) in [
            (SecurityProfile::Off, true, true, Some("own"), None, None),
            (SecurityProfile::Standard, true, false, Some("own"), None, None),
            (SecurityProfile::Standard, true, true, Some("SAMEORIGIN"), None, None),
            (SecurityProfile::Strict, false, true, Some("DENY"), Some("default-src 'self'"), None),
            (
                SecurityProfile::Strict,
                true,
                false,
                Some("own"),
                Some("default-src 'self'"),
                Some("max-age=31536000"),
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("own"));
            secure(&mut headers, profile, is_tls, overrides);
            let starts = |name: &HeaderName, expected: Option<&str>| {
                let got = headers.get(name).and_then(|v| v.to_str().ok());
                match (got, expected) {
                    (Some(got), Some(expected)) => {
                        assert!(got.starts_with(expected), "{profile:?} {name}: {got}");
                    }
                    (got, expected) => assert_eq!(got, expected, "{profile:?} {name}"),
                }
            };
            starts(&X_FRAME_OPTIONS, frame);
            starts(&CONTENT_SECURITY_POLICY, csp);
            starts(&STRICT_TRANSPORT_SECURITY, hsts);
        }
    }
}
