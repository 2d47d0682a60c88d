use super::*;
use crate::inspect::WafDenial;
use crate::upstream::UpstreamError;
use crate::wire::{FramingError, HeadError};

fn body_of(reply: &Reply) -> String {
    match &reply.body {
        Body::Full(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Body::Empty | Body::Stream(_) => String::new(),
    }
}

#[test]
fn one_answer_for_each_refusal() {
    let id = HeaderValue::from_static("id-1");
    for (denial, status, code, connection) in [
        (Denial::Head(HeadError::BareLf), 400, "bare_lf", Afterwards::Close),
        (Denial::Head(HeadError::TooMany), 431, "too_many_headers", Afterwards::Close),
        (Denial::Head(HeadError::TargetTooLong), 414, "uri_too_long", Afterwards::Close),
        (Denial::Head(HeadError::Version), 505, "http_version", Afterwards::Close),
        (Denial::Framing(FramingError::Both), 400, "two_lengths", Afterwards::Close),
        (Denial::Framing(FramingError::Encoding), 501, "transfer_encoding", Afterwards::Close),
        (Denial::Body(crate::wire::BodyError::TooLarge), 413, "body_too_large", Afterwards::Close),
        (Denial::SlowHead, 408, "header_timeout", Afterwards::Close),
        (Denial::NoRoute, 404, "no_route", Afterwards::Keep),
        (Denial::Banned { retry_after: Some(9) }, 403, "banned", Afterwards::Close),
        (Denial::Challenged { path: None }, 403, "challenge", Afterwards::Keep),
        (Denial::Challenged { path: Some("/challenge".into()) }, 303, "challenge", Afterwards::Keep),
        (Denial::Waf(WafDenial::Deny { status: 406, rule_id: 1 }), 406, "waf", Afterwards::Keep),
        (Denial::Waf(WafDenial::Drop { rule_id: 1 }), 403, "waf", Afterwards::Drop),
        (Denial::Upstream(UpstreamError::Connect), 502, "upstream_connect", Afterwards::Keep),
        (Denial::Upstream(UpstreamError::ResponseTimeout), 504, "upstream_timeout", Afterwards::Keep),
        (Denial::Upstream(UpstreamError::Full), 503, "upstream_full", Afterwards::Keep),
        (Denial::Overload, 503, "overload", Afterwards::Close),
    ] {
        let reply = refuse(&denial, Asked { method: None, accept: None, request_id: Some(&id) });
        assert_eq!((reply.status.as_u16(), reply.connection), (status, connection), "{denial:?}");
        let body: serde_json::Value = serde_json::from_str(&body_of(&reply)).expect("JSON");
        assert_eq!(body["error"]["code"], code, "{denial:?}");
        assert_eq!(body["error"]["request_id"], "id-1", "{denial:?}");
        assert_eq!(reply.headers[&REQUEST_ID], "id-1", "{denial:?}");
    }
}

#[test]
fn the_form_follows_accept_and_method() {
    let html = HeaderValue::from_static("text/html,application/xhtml+xml");
    let id = HeaderValue::from_static("<b>");
    let asked = Asked { method: Some(&Method::GET), accept: Some(&html), request_id: Some(&id) };
    let reply = refuse(&Denial::NoRoute, asked);
    assert_eq!(reply.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(body_of(&reply).contains("&lt;b&gt;"), "{}", body_of(&reply));
    let reply = refuse(&Denial::NoRoute, Asked { method: Some(&Method::HEAD), ..asked });
    assert!(matches!(reply.body, Body::Empty));
}

#[test]
fn limits_say_when_to_come_back() {
    let fields = vec![(HeaderName::from_static("ratelimit"), HeaderValue::from_static("\"p\";r=0;t=7"))];
    let reply = refuse(
        &Denial::Limited { limit: "p".into(), retry_after: 7, fields, challenge: None },
        Asked::default(),
    );
    assert!(body_of(&reply).contains(r#""limit":"p""#), "{}", body_of(&reply));
    assert_eq!(reply.headers[RETRY_AFTER], "7");
    assert_eq!(reply.headers["ratelimit"], "\"p\";r=0;t=7");
    let reply = refuse(&Denial::Method { allow: "GET, HEAD".into() }, Asked::default());
    assert_eq!(reply.headers[ALLOW], "GET, HEAD");
}
