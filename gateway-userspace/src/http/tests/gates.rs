//! What the gates of the pipeline say, and who hears of it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::harness::{Gateway, Options, Origin};
use crate::bans::OffenceKind;
use crate::client::ClientId;
use crate::limits::Holding;
use crate::pipeline::{
    Challenge, DenyList, DenyReason, LimitCheck, LimitGate, LimitOutcome, LimitRefusal, LimitRequest,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

fn config(origin: &Origin) -> String {
    format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
        origin.address
    )
}

/// Refuses the path `/limited`, asks elsewhere for `/slow`.
struct Limits;

impl LimitGate for Limits {
    fn check<'a>(&'a self, request: LimitRequest<'a>) -> LimitCheck<'a> {
        let fields = vec![(HeaderName::from_static("ratelimit"), HeaderValue::from_static("\"p\";r=1;t=2"))];
        let refused = (request.path == b"/limited").then(|| LimitRefusal {
            limit: "p".into(),
            retry_after: 7,
            challenge: None,
        });
        let outcome = LimitOutcome { refused, fields, ..LimitOutcome::default() };
        if request.path == b"/slow" {
            return LimitCheck::Wait(Box::pin(async move {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                outcome
            }));
        }
        LimitCheck::Done(outcome)
    }

    fn settle(&self, _: Holding, _: u16, _: &HeaderMap) -> Option<Holding> {
        None
    }
}

#[test]
fn limits_refuse_and_tell() {
    let origin = Origin::hello();
    let options = Options { limits: Some(Arc::new(Limits)), ..Options::default() };
    let mut gateway = Gateway::start(&config(&origin), options);
    for (path, status) in [("/x", 200), ("/slow", 200), ("/limited", 429)] {
        let mut client = gateway.connect();
        client.send(GET.replace("/x", path));
        let response = client.response().expect("a response");
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.field("ratelimit"), Some("\"p\";r=1;t=2"), "{path}");
        assert_eq!(response.code(), if status == 429 { "rate_limited" } else { "" }, "{path}");
        let expected = (status == 429).then_some("7");
        assert_eq!(response.field("retry-after"), expected, "{path}");
    }
    assert_eq!(origin.requests().len(), 2);
    let offence = gateway.offences.try_recv().expect("told");
    assert_eq!((offence.kind, offence.weight), (OffenceKind::Limit, 1));
    assert!(gateway.offences.try_recv().is_err());
}

/// Refuses whoever comes from this host.
struct Everyone(Option<Challenge>);

impl DenyList for Everyone {
    fn denied(&self, client: &ClientId, _ja4: Option<&Arc<str>>) -> Option<DenyReason> {
        let reason = DenyReason { retry_after: Some(60), challenge: self.0.clone() };
        client.addr().is_loopback().then_some(reason)
    }
}

#[test]
fn who_is_challenged_may_go_there_and_nowhere_else() {
    let origin = Origin::hello();
    let nowhere = Challenge { path: None };
    let there = Challenge { path: Some("/challenge".into()) };
    for (challenge, path, status, location) in [
        (&nowhere, "/x", 403, None),
        (&there, "/x", 303, Some("/challenge")),
        (&there, "/challenger", 303, Some("/challenge")),
        (&there, "/challenge", 200, None),
        (&there, "/challenge/answer?a=b", 200, None),
        (&there, "/challenge/../x", 303, Some("/challenge")),
    ] {
        let deny_list: Arc<dyn DenyList> = Arc::new(Everyone(Some(challenge.clone())));
        let options = Options { deny_list: Some(deny_list), ..Options::default() };
        let mut gateway = Gateway::start(&config(&origin), options);
        let mut client = gateway.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response().expect("a response");
        assert_eq!((response.status(), response.field("location")), (status, location), "{path}");
        assert!(gateway.offences.try_recv().is_err(), "a challenge is no offence");
    }
}

#[test]
fn a_banned_client_goes_no_further() {
    let origin = Origin::hello();
    let options = Options { deny_list: Some(Arc::new(Everyone(None))), ..Options::default() };
    let gateway = Gateway::start(&config(&origin), options);
    let mut client = gateway.connect();
    client.send(GET);
    let response = client.response().expect("a response");
    assert_eq!((response.status(), response.code().as_str()), (403, "banned"));
    assert_eq!(response.field("retry-after"), Some("60"));
    assert!(client.is_closed());
    assert!(origin.requests().is_empty());
}

#[test]
fn what_the_server_says_and_what_is_asked_for_are_offences() {
    let origin = Origin::start(|stream, request| {
        let path = request.head.split(' ').nth(1).unwrap_or_default();
        let status = path.rsplit('/').next().and_then(|s| s.parse().ok()).unwrap_or(200);
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        std::io::Write::write_all(stream, answer.as_bytes()).is_ok()
    });
    let more = "[[routes]]\nname = \"login\"\nhosts = [\"a\"]\npath_prefix = \"/login\"\nupstream = \"u\"\n\
        [[routes]]\nname = \"rest\"\nhosts = [\"a\"]\nupstream = \"u\"\n\
        [bans.offences]\nauthentication_routes = [\"login\"]\nhoneypots = [\"/trap/*\"]\n";
    let mut gateway = Gateway::before(&origin, more);
    for (host, path, status, expected) in [
        ("a", "/200", 200, None),
        ("a", "/404", 404, Some((OffenceKind::NotFound, "rest"))),
        ("a", "/401", 401, None),
        ("a", "/login/401", 401, Some((OffenceKind::Authentication, "login"))),
        ("a", "/login/403", 403, Some((OffenceKind::Authentication, "login"))),
        ("a", "/login/200", 200, None),
        ("a", "/x/../trap/200", 200, Some((OffenceKind::Honeypot, "rest"))),
        ("a", "/trap/404", 404, Some((OffenceKind::Honeypot, "rest"))),
        ("b", "/nowhere", 404, Some((OffenceKind::NotFound, ""))),
    ] {
        let mut client = gateway.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().expect("a response").status(), status, "{path}");
        let told = gateway.offences.try_recv().ok();
        let subject = told.as_ref().and_then(|o| o.subject.clone()).unwrap_or_default();
        let got = told.as_ref().map(|o| (o.kind, &*subject));
        assert_eq!(got, expected, "{path}");
        assert!(gateway.offences.try_recv().is_err(), "{path}: one offence");
    }
}

#[test]
fn broken_http_is_an_offence() {
    let origin = Origin::hello();
    let mut gateway = Gateway::before(&origin, "");
    let answer = gateway.exchange("GET / HTTP/1.1\nHost: a\n\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let offence = gateway.offences.try_recv().expect("told");
    assert_eq!(offence.kind, OffenceKind::Protocol);
    assert_eq!(offence.client.kernel_target(), "127.0.0.1".parse().ok());
    let lines = gateway.log_lines(1);
    assert_eq!((&lines[0]["status"], &lines[0]["denied"]), (&400.into(), &"bare_lf".into()));
}

#[test]
fn preflights_are_answered_here() {
    let origin = Origin::hello();
    let text = format!(
        "{}[[routes]]\nupstream = \"u\"\nsecurity_headers = \"strict\"\n[routes.cors]\norigins = [\"https://app.test\"]\nmethods = [\"PUT\"]\n",
        config(&origin)
    );
    let gateway = Gateway::start(&text, Options::default());
    let mut client = gateway.connect();
    client.send("OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: PUT\r\n\r\n");
    let response = client.response().expect("an answer");
    assert_eq!((response.status(), response.field("access-control-allow-methods")), (204, Some("PUT")));
    assert!(origin.requests().is_empty());
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nOrigin: https://app.test\r\n\r\n");
    let response = client.response().expect("an answer");
    assert_eq!(response.field("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(response.field("x-frame-options"), Some("DENY"));
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.test\r\n\r\n");
    let response = client.response().expect("an answer");
    assert_eq!((response.status(), response.field("access-control-allow-origin")), (200, None));
}
