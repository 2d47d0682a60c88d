//! The rules in the path of a request: what they see, and what becomes of their verdicts.

use std::io::Write as _;

use super::harness::{Gateway, Options, Origin};
use crate::bans::OffenceKind;

const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain
SecRule REQUEST_URI "@contains uri-evil" "id:1,phase:1,deny,status:406"
SecRule ARGS "@contains arg-evil" "id:2,phase:2,deny,status:403"
SecRule REQUEST_HEADERS:X-Drop "@streq yes" "id:3,phase:1,drop"
SecRule REQUEST_HEADERS:X-Move "@streq yes" "id:4,phase:1,redirect:https://other.test/"
SecRule RESPONSE_BODY "@contains leak" "id:5,phase:4,deny,status:502"
SecRule REQUEST_URI "@streq /b" "id:6,phase:1,deny,status:418"
"#;

fn gateway(origin: &Origin, more: &str) -> Gateway {
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n{more}",
        origin.address
    );
    Gateway::start(&text, Options { rules: RULES, ..Options::default() })
}

#[test]
fn verdicts_are_carried_out() {
    let origin = Origin::start(|stream, request| {
        let body = if request.line().contains("/leak") { "a leak of it" } else { "fine" };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).is_ok()
    });
    let mut gateway = gateway(&origin, "");
    let form = |body: &str| {
        format!(
            "POST /p HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    for (name, bytes, status, rule, upstream) in [
        ("clean", get("/x?q=fine", ""), 200, None, 1),
        ("URI", get("/x?uri-evil", ""), 406, Some(1), 0),
        ("argument", get("/x?q=arg-evil", ""), 403, Some(2), 0),
        ("clean form", form("q=fine"), 200, None, 1),
        ("form", form("q=arg%2Devil"), 403, Some(2), 0),
        ("redirect", get("/x", "X-Move: yes\r\n"), 302, Some(4), 0),
        ("drop", get("/x", "X-Drop: yes\r\n"), 0, Some(3), 0),
        ("answer", get("/leak", ""), 502, Some(5), 1),
        ("the path in its one form", get("/a/../b", ""), 418, Some(6), 0),
    ] {
        origin.seen.lock().expect("lock").clear();
        let mut client = gateway.connect();
        client.send(bytes);
        let response = client.response();
        assert_eq!(response.as_ref().map_or(0, super::harness::Response::status), status, "{name}");
        if name == "redirect" {
            assert_eq!(response.as_ref().and_then(|r| r.field("location")), Some("https://other.test/"));
        }
        let text = response.map(|r| String::from_utf8_lossy(&r.body).into_owned()).unwrap_or_default();
        assert!(!text.contains("leak"), "{name}: {text}");
        assert_eq!(origin.requests().len(), upstream, "{name}");
        let offence = gateway.offences.try_recv().ok();
        assert_eq!(
            offence.as_ref().map(|o| (o.kind, o.rules.clone())),
            rule.map(|r| (OffenceKind::Waf, vec![r])),
            "{name}"
        );
    }
}

#[test]
fn detection_refuses_nothing_and_tells_nobody() {
    let origin = Origin::hello();
    let mut gateway = gateway(
        &origin,
        "[[routes]]\nupstream = \"u\"\nwaf = \"detect\"\n[[routes]]\nupstream = \"u\"\npath_prefix = \"/off\"\nwaf = \"off\"\n",
    );
    for (target, rules) in
        [("/x?uri-evil", serde_json::json!([1])), ("/off?uri-evil", serde_json::Value::Null)]
    {
        let mut client = gateway.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().expect("an answer").status(), 200, "{target}");
        let lines = gateway.log_lines(if target == "/x?uri-evil" { 1 } else { 2 });
        assert_eq!(lines.last().expect("a line")["rules"], rules, "{target}");
    }
    assert!(gateway.offences.try_recv().is_err());
    assert!(gateway.metrics().contains("gateway_inspect_detected_total 1"), "{}", gateway.metrics());
}

#[test]
fn a_large_body_is_inspected_and_sent_on_whole() {
    let origin = Origin::start(|stream, request| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-got: {}\r\n\r\n", request.body.len());
        stream.write_all(head.as_bytes()).is_ok()
    });
    let gateway = gateway(&origin, "");
    // The last is past the rules' own limit for bodies without files.
    for (size, status) in [(10usize, 200), (100_000, 200), (900_000, 200), (2_000_000, 413)] {
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {size}\r\n\r\n"));
        client.send(vec![b'a'; size]);
        let response = client.response().expect("an answer");
        let got = (status == 200).then(|| size.to_string());
        assert_eq!((response.status(), response.field("x-got")), (status, got.as_deref()), "{size}");
    }
}
