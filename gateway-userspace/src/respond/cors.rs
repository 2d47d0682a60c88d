//! Cross-origin requests (the Fetch standard, section 3.2): preflights answered here, answers marked.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use http::{Method, StatusCode};

use super::{Afterwards, Reply};
use crate::config::edge::Cors;
use crate::wire::Body;

/// Whether a request asks for leave rather than for something.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight. An origin that isn't allowed gets no leave: the browser refuses then.
pub fn preflight(cors: &Cors, origin: Option<&HeaderValue>) -> Reply {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(
        VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    if let Some(origin) = allowed(cors, origin) {
        allow(&mut headers, cors, origin);
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, cors.methods.join(", ")),
            (ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.join(", ")),
            (ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs().to_string()),
        ] {
            if let Some(value) =
                Some(value).filter(|v| !v.is_empty()).and_then(|v| HeaderValue::from_str(&v).ok())
            {
                headers.insert(name, value);
            }
        }
    }
    Reply {
        status: StatusCode::NO_CONTENT,
        headers,
        body: Body::Empty,
        upgraded: None,
        connection: Afterwards::Keep,
    }
}

/// Marks an answer: the server's own CORS fields give way to the route's.
pub fn mark(headers: &mut HeaderMap, cors: &Cors, origin: Option<&HeaderValue>) {
    headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed(cors, origin) {
        allow(headers, cors, origin);
    }
}

fn allowed<'a>(cors: &Cors, origin: Option<&'a HeaderValue>) -> Option<&'a HeaderValue> {
    origin.filter(|o| cors.origins.iter().any(|allowed| allowed.as_bytes() == o.as_bytes()))
}

fn allow(headers: &mut HeaderMap, cors: &Cors, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_exact_origins() {
        let cors = Cors {
            origins: vec!["https://app.test".to_owned()],
            methods: vec!["GET".to_owned(), "PUT".to_owned()],
            headers: vec!["x-token".to_owned()],
            credentials: true,
            max_age: Duration::from_mins(1),
        };
        for (origin, expected) in [
            ("https://app.test", true),
            ("https://app.test.evil", false),
            ("http://app.test", false),
            ("https://APP.test", false),
            ("null", false),
        ] {
            let value = HeaderValue::from_static(origin);
            let reply = preflight(&cors, Some(&value));
            assert_eq!(reply.status, StatusCode::NO_CONTENT);
            assert_eq!(reply.headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), expected, "{origin}");
            for (name, value) in [
                (ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT"),
                (ACCESS_CONTROL_ALLOW_HEADERS, "x-token"),
                (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
                (ACCESS_CONTROL_MAX_AGE, "60"),
            ] {
                let got = reply.headers.get(&name).map(HeaderValue::as_bytes);
                assert_eq!(got, expected.then_some(value.as_bytes()), "{origin} {name}");
            }
            let mut headers = HeaderMap::new();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            mark(&mut headers, &cors, Some(&value));
            let got = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(got, expected.then_some(&value), "{origin}");
            assert_eq!(headers[VARY], "Origin");
        }
    }
}
