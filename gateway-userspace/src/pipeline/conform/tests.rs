use super::*;
use crate::pipeline::site::HttpRules;

fn rules() -> HttpRules {
    HttpRules::for_tests(&[])
}

/// Method, target, version, fields: then host, target and the names that are left; or the refusal's code.
fn check(
    method: &str,
    target: &str,
    version: Version,
    fields: &[(&'static str, &str)],
    expected: Result<(&str, &str, &str), &str>,
) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().expect("value"));
    }
    let incoming = Incoming {
        method: method.parse().expect("method"),
        target: Bytes::copy_from_slice(target.as_bytes()),
        authority: None,
        version,
        headers,
        body: Body::Empty,
    };
    let got = conform(incoming, &rules()).map(|c| {
        let names: Vec<_> = c.headers.keys().map(http::HeaderName::as_str).collect();
        (c.host.to_string(), String::from_utf8_lossy(&c.target).into_owned(), names.join(","))
    });
    let got = got.as_ref().map(|(h, t, n)| (h.as_str(), t.as_str(), n.as_str())).map_err(Denial::code);
    assert_eq!(got, expected, "{method} {target} {fields:?}");
}

#[test]
fn one_meaning() {
    let v11 = Version::HTTP_11;
    let host = ("host", "a.test");
    check("GET", "/x?y", v11, &[host], Ok(("a.test", "/x?y", "host")));
    check("GET", "/x/../y?../z", v11, &[("host", "A.Test:80")], Ok(("a.test", "/y?../z", "host")));
    check("GET", "http://a.test/x", v11, &[host], Ok(("a.test", "/x", "host")));
    check("GET", "http://a.test?x", v11, &[host], Ok(("a.test", "/?x", "host")));
    check("GET", "HTTPS://A.TEST", v11, &[host], Ok(("a.test", "/", "host")));
    check("GET", "http://b.test/x", v11, &[host], Err("host_mismatch"));
    check("GET", "http://a.test:81/x", v11, &[host], Err("host_mismatch"));
    check("GET", "http://u@a.test/x", v11, &[("host", "u@a.test")], Err("host_syntax"));
    check("GET", "ftp://a.test/x", v11, &[host], Err("target_form"));
    check("GET", "a.test:80", v11, &[host], Err("target_form"));
    check("GET", "*", v11, &[host], Err("target_form"));
    check("OPTIONS", "*", v11, &[host], Ok(("a.test", "*", "host")));
    check("CONNECT", "a.test:443", v11, &[host], Err("method_not_allowed"));
    check("TRACE", "/", v11, &[host], Err("method_not_allowed"));
    check("GET", "/", v11, &[], Err("no_host"));
    check("GET", "/", Version::HTTP_10, &[], Ok(("", "/", "")));
    check("GET", "/", v11, &[host, host], Err("duplicate_host"));
    check("GET", "/", v11, &[("host", "")], Err("host_syntax"));
    check("GET", "/", v11, &[("host", "a b")], Err("host_syntax"));
    check("GET", "/", v11, &[("host", "a.test, b.test")], Err("host_syntax"));
    check("GET", "/", v11, &[("host", "a.test:x")], Err("host_syntax"));
    check("GET", "/", v11, &[("host", "[::1]:80")], Ok(("[::1]", "/", "host")));
    check("GET", "/", v11, &[("host", "[::1]x")], Err("host_syntax"));
    check("GET", "/", v11, &[host, ("expect", "100-Continue")], Ok(("a.test", "/", "host")));
    check("GET", "/", v11, &[host, ("expect", "magic")], Err("expectation"));
    check(
        "GET",
        "/",
        v11,
        &[host, ("connection", "x"), ("x", "1"), ("te", "trailers")],
        Ok(("a.test", "/", "host")),
    );
    check("GET", "/", v11, &[host, ("connection", "host")], Err("connection_header"));
    check("GET", "/", v11, &[host, ("x_forwarded_for", "1.1.1.1")], Ok(("a.test", "/", "host")));
    check("GET", "/%00", v11, &[host], Err("path_nul"));
    check("GET", "/a/../../b", v11, &[host], Err("path_traversal"));
}

#[test]
fn only_configured_hosts_are_served() {
    let rules = HttpRules::for_tests(&["a.test", "*.b.test"]);
    for (host, expected) in
        [("a.test", true), ("x.b.test", true), ("x.y.b.test", true), ("b.test", false), ("c.test", false)]
    {
        assert_eq!(rules.serves(host), expected, "{host}");
    }
}
