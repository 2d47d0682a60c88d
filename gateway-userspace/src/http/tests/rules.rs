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

/// Rules of the shape that CRS has: levels and thresholds with defaults, scores, a decision.
const SCORED: &str = r#"
SecRequestBodyAccess On
SecRule &TX:blocking_paranoia_level "@eq 0" "id:100,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level=1"
SecRule &TX:inbound_anomaly_score_threshold "@eq 0" "id:101,phase:1,pass,nolog,setvar:tx.inbound_anomaly_score_threshold=5"
SecAction "id:102,phase:1,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=0"
SecRule ARGS "@contains evil" "id:110,phase:2,pass,log,tag:'attack-a',setvar:tx.blocking_inbound_anomaly_score=+5"
SecRule TX:blocking_paranoia_level "@lt 2" "id:120,phase:2,pass,nolog,skipAfter:END-2"
SecRule ARGS "@contains odd" "id:121,phase:2,pass,log,tag:'attack-b',setvar:tx.blocking_inbound_anomaly_score=+5"
SecMarker END-2
SecRule TX:blocking_inbound_anomaly_score "@ge %{tx.inbound_anomaly_score_threshold}" "id:190,phase:2,deny,status:403,log"
SecRule TX:blocking_inbound_anomaly_score "@ge 1" "id:195,phase:5,pass,log"
"#;

#[test]
fn routes_have_their_own_mode_level_threshold_and_exclusions() {
    let origin = Origin::hello();
    let routes: String = [
        ("/off", "waf = \"off\""),
        ("/detect", "waf = \"detect\""),
        ("/level", "waf_paranoia_level = 2"),
        ("/high", "waf_inbound_threshold = 6"),
        ("/id", "waf_exclude = [{ id = 110 }]"),
        ("/range", "waf_exclude = [{ id = \"105-115, 121\" }]\nwaf_paranoia_level = 2"),
        ("/tag", "waf_exclude = [{ tag = \"attack-a\" }]\nwaf_paranoia_level = 2"),
        ("/target", "waf_exclude = [{ id = 110, target = \"ARGS:free\" }, { tag = \"attack-b\", target = \"ARGS:free\" }]"),
    ]
    .iter()
    .map(|(prefix, keys)| format!("[[routes]]\nupstream = \"u\"\npath_prefix = \"{prefix}\"\n{keys}\n"))
    .collect();
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n{routes}\
         [[routes]]\nupstream = \"u\"\n[log]\naccess_format = \"json\"\n",
        origin.address
    );
    let mut gateway = Gateway::start(&text, Options { rules: SCORED, ..Options::default() });
    for (n, (target, status, rules)) in [
        ("/?a=evil", 403, &[110, 190, 195][..]),
        ("/?a=odd", 200, &[]),
        ("/off?a=evil", 200, &[]),
        ("/detect?a=evil", 200, &[110, 190, 195]),
        ("/level?a=evil", 403, &[110, 190, 195]),
        ("/level?a=odd", 403, &[121, 190, 195]),
        ("/high?a=evil", 200, &[110, 195]),
        ("/id?a=evil", 200, &[]),
        ("/range?a=evil+odd", 200, &[]),
        ("/tag?a=evil", 200, &[]),
        ("/tag?a=odd", 403, &[121, 190, 195]),
        ("/target?free=evil", 200, &[]),
        ("/target?a=evil", 403, &[110, 190, 195]),
        // The next request has nothing of the one before.
        ("/?free=evil", 403, &[110, 190, 195]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().expect("an answer").status(), status, "{target}");
        // The logging phase's matches are in the line as well.
        let line = gateway.log_lines(n + 1).pop().expect("a line");
        let got = line["rules"].as_array().cloned().unwrap_or_default();
        let expected: Vec<serde_json::Value> = rules.iter().map(|r| serde_json::json!(r)).collect();
        assert_eq!(got, expected, "{target}");
        let offence = gateway.offences.try_recv().ok();
        let expected = (status == 403).then(|| (OffenceKind::Waf, 5, &rules[..2]));
        let got = offence.as_ref().map(|o| (o.kind, o.weight, o.rules.as_slice()));
        assert_eq!(
            got.map(|(k, w, r)| (k, w, r.iter().map(|r| *r as i32).collect::<Vec<_>>())),
            expected.map(|(k, w, r)| (k, w, r.to_vec())),
            "{target}"
        );
    }
    assert!(gateway.metrics().contains("gateway_inspect_detected_total 1"), "{}", gateway.metrics());
}

#[test]
fn a_route_blocks_where_the_rest_only_detects() {
    let origin = Origin::hello();
    let gateway = gateway(
        &origin,
        "[waf]\nmode = \"detect\"\n[[routes]]\nupstream = \"u\"\n\
         [[routes]]\nupstream = \"u\"\npath_prefix = \"/guarded\"\nwaf = \"block\"\n",
    );
    for (target, status) in [("/x?uri-evil", 200), ("/guarded?uri-evil", 406), ("/x?uri-evil", 200)] {
        let mut client = gateway.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().expect("an answer").status(), status, "{target}");
    }
}

#[test]
fn an_attack_is_in_the_audit_log() {
    let origin = Origin::hello();
    let file = std::env::temp_dir().join(format!("gateway-audit-http-{}.json", std::process::id()));
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n\
         [waf]\naudit_log = \"{}\"\n",
        origin.address,
        file.display()
    );
    let rules = r#"
SecRequestBodyAccess On
SecAuditEngine RelevantOnly
SecAuditLogFormat JSON
SecAuditLogParts ABCFHZ
SecAction "id:1,phase:1,pass,nolog,sanitiseArg:password"
SecRule ARGS:q "@contains evil" "id:2,phase:2,deny,status:403,log,auditlog,msg:'Evil',tag:'attack',severity:CRITICAL"
SecRule RESPONSE_STATUS "@streq 200" "id:3,phase:5,pass,log,auditlog,msg:'Served'"
"#;
    let gateway = Gateway::start(&text, Options { rules, ..Options::default() });
    let body = "q=evil&password=hunter2";
    for (ended, request) in [
        format!(
            "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        "GET /fine HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.connect();
        client.send(request);
        client.response().expect("an answer");
        // The request's end may come after its answer, and the next one be on another worker.
        assert_eq!(gateway.log_lines(ended + 1).len(), ended + 1);
    }
    // Closing writes what is left.
    drop(gateway);
    let text = std::fs::read_to_string(&file).expect("audit log");
    std::fs::remove_file(&file).expect("removed");
    assert!(!text.contains("hunter2"), "{text}");
    let records: Vec<serde_json::Value> =
        text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let [attack, served] = &*records else { panic!("{text}") };
    for (record, pointer, expected) in [
        (attack, "/transaction/request/body", serde_json::json!("q=evil&password=*******")),
        (attack, "/transaction/request/headers/host", serde_json::json!("a")),
        (attack, "/transaction/response/http_code", serde_json::json!(403)),
        (attack, "/transaction/messages/0/details/ruleId", serde_json::json!("2")),
        (attack, "/transaction/messages/0/details/tags/0", serde_json::json!("attack")),
        (attack, "/transaction/messages/1", serde_json::Value::Null),
        (served, "/transaction/response/http_code", serde_json::json!(200)),
        (served, "/transaction/messages/0/details/ruleId", serde_json::json!("3")),
    ] {
        let got = record.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(got, expected, "{pointer}");
    }
}

#[test]
fn responses_are_inspected_by_their_type_and_to_their_limit() {
    let origin = Origin::start(|stream, request| {
        let target = request.line().split(' ').nth(1).unwrap_or("").to_owned();
        let kind = if target.starts_with("/html") { "text/html; charset=utf-8" } else { "image/png" };
        let size = target.rsplit('=').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
        let mut body = vec![b'a'; size];
        body.extend_from_slice(b"secret");
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_ok()
    });
    let check = |action: &str, rows: &[(&str, u16)]| {
        let rules: &'static str = Box::leak(
            format!(
                "SecResponseBodyAccess On\nSecResponseBodyMimeType text/html\nSecResponseBodyLimit 1000\n\
                 SecResponseBodyLimitAction {action}\n\
                 SecRule RESPONSE_BODY \"@contains secret\" \"id:1,phase:4,deny,status:502\"\n"
            )
            .into_boxed_str(),
        );
        let text = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
            origin.address
        );
        let gateway = Gateway::start(&text, Options { rules, ..Options::default() });
        for (target, status) in rows {
            let mut client = gateway.connect();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.response().expect("an answer");
            assert_eq!(response.status(), *status, "{action} {target}");
            if *status == 200 {
                assert!(response.body.ends_with(b"secret"), "{action} {target}: the whole body goes on");
            }
        }
    };
    check(
        "ProcessPartial",
        &[("/html?n=0", 502), ("/html?n=900", 502), ("/html?n=2000", 200), ("/png?n=0", 200)],
    );
    check("Reject", &[("/html?n=900", 502), ("/html?n=2000", 500), ("/png?n=2000", 200)]);
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
