//! Trailer fields: which of them may travel on (RFC 9110, section 6.5.1).

use http::header::{
    ACCEPT_ENCODING, AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, COOKIE, DATE, EXPECT, EXPIRES, FORWARDED,
    HOST, HeaderMap, HeaderName, LOCATION, MAX_FORWARDS, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    RANGE, RETRY_AFTER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, WARNING, WWW_AUTHENTICATE,
};

/// Fields that frame, route, authenticate or change a message: a receiver that merges trailers into the head would
/// act on what no check has seen.
static NEVER: [HeaderName; 26] = [
    ACCEPT_ENCODING,
    AGE,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    COOKIE,
    DATE,
    EXPECT,
    EXPIRES,
    FORWARDED,
    HOST,
    LOCATION,
    MAX_FORWARDS,
    PRAGMA,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    RANGE,
    RETRY_AFTER,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VARY,
    WARNING,
    WWW_AUTHENTICATE,
];

/// Removes what must not stand in a trailer section, and names that a server could take for another field.
pub fn keep_trailers(trailers: &mut HeaderMap) {
    if trailers.is_empty() {
        return;
    }
    let bad = |name: &HeaderName| {
        let text = name.as_str();
        NEVER.contains(name)
            || text.contains('_')
            || ["content-", "if-", "x-forwarded-", "x-real-", "x-client-", "x-request-id", "sec-"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
    };
    let gone: Vec<HeaderName> = trailers.keys().filter(|name| bad(name)).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays() {
        for (name, stays) in [
            ("grpc-status", true),
            ("server-timing", true),
            ("x-checksum", true),
            ("content-length", false),
            ("content-encoding", false),
            ("host", false),
            ("transfer-encoding", false),
            ("authorization", false),
            ("cookie", false),
            ("x-forwarded-for", false),
            ("x_checksum", false),
            ("if-match", false),
        ] {
            let mut trailers = HeaderMap::new();
            trailers.insert(HeaderName::from_static(name), "v".parse().expect("value"));
            keep_trailers(&mut trailers);
            assert_eq!(!trailers.is_empty(), stays, "{name}");
        }
    }
}
