//! WebSocket and other switches of protocol; PROXY headers; redirects.

use std::io::{Read as _, Write as _};

use super::harness::Options;
use super::{Gateway, Origin};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";

/// Switches, says `welcome` at once, then echoes in capitals.
fn shouting() -> Origin {
    Origin::start(|stream, request| {
        if request.field("upgrade") != Some("websocket") {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").is_ok();
        }
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nwelcome";
        if stream.write_all(head.as_bytes()).is_err() {
            return false;
        }
        let mut piece = [0; 1024];
        while let Ok(n) = stream.read(&mut piece) {
            if n == 0 || stream.write_all(&piece[..n].to_ascii_uppercase()).is_err() {
                break;
            }
        }
        false
    })
}

#[test]
fn a_tunnel_carries_bytes_both_ways() {
    let origin = shouting();
    let gateway = Gateway::before(&origin, "[[routes]]\nupstream = \"u\"\nupgrade = true\n");
    let mut client = gateway.connect();
    client.send(UPGRADE);
    let head = client.response().expect("an answer");
    assert_eq!((head.status(), head.field("upgrade")), (101, Some("websocket")), "{}", head.head);
    assert_eq!(origin.requests()[0].field("connection"), Some("upgrade"));
    assert_eq!(origin.requests()[0].field("sec-websocket-key"), Some("x"));
    client.send("hello");
    client.stream.shutdown(std::net::Shutdown::Write).expect("shut");
    assert_eq!(client.rest(), "welcomeHELLO");
    let line = &gateway.log_lines(1)[0];
    assert_eq!((&line["status"], line.get("complete")), (&101.into(), None));
}

#[test]
fn a_route_without_upgrades_offers_none() {
    let origin = shouting();
    let gateway = Gateway::before(&origin, "");
    let mut client = gateway.connect();
    client.send(UPGRADE);
    assert_eq!(client.response().expect("an answer").body, b"no");
}

#[test]
fn bytes_before_the_switch_end_the_connection() {
    let origin = Origin::start(|stream, _| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
        let mut piece = [0; 64];
        // Nothing of the client's may arrive here.
        let n = stream.read(&mut piece).unwrap_or(0);
        assert_eq!(n, 0);
        false
    });
    let gateway = Gateway::before(&origin, "[[routes]]\nupstream = \"u\"\nupgrade = true\n");
    let mut client = gateway.connect();
    client.send(UPGRADE);
    std::thread::sleep(std::time::Duration::from_millis(80));
    client.send("GET /evil HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.rest(), "");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn proxy_headers() {
    let origin = Origin::hello();
    let text = |trusted: &str| {
        format!(
            "[client]\ntrusted_proxies = [\"{trusted}\"]\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
             proxy_protocol = \"required\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
            origin.address
        )
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    v2.extend_from_slice(&[203, 0, 113, 9, 127, 0, 0, 1, 1, 2, 0, 80]);
    let v1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 5000 80\r\n".to_vec();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec();
    let gateway = Gateway::start(&text("127.0.0.0/8"), Options::default());
    for (name, header, expected) in [
        ("version 1", v1.clone(), Some("203.0.113.7")),
        ("version 2", v2.clone(), Some("203.0.113.9")),
        ("the proxy itself", local, Some("127.0.0.1")),
        ("none", Vec::new(), None),
        ("malformed", b"PROXY TCP4 203.0.113.7\r\n".to_vec(), None),
        ("endless", [b"PROXY TCP4 ", &[b'1'; 200][..]].concat(), None),
    ] {
        origin.seen.lock().expect("lock").clear();
        let mut client = gateway.connect();
        client.send([&header[..], get.as_bytes()].concat());
        let response = client.response();
        assert_eq!(response.is_some(), expected.is_some(), "{name}");
        let seen = origin.requests();
        assert_eq!(seen.first().and_then(|r| r.field("x-forwarded-for")), expected, "{name}");
    }
    // From anyone else even a good one is refused.
    let gateway = Gateway::start(&text("10.0.0.0/8"), Options::default());
    let mut client = gateway.connect();
    client.send([&v1[..], get.as_bytes()].concat());
    assert!(client.response().is_none());
}

#[test]
fn trusted_proxies_name_the_client_and_the_request() {
    let origin = Origin::hello();
    let get = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine-1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n";
    for (trusted, kind, client, chain, forwarded, proto, id) in [
        (
            "127.0.0.0/8",
            "x-forwarded-for",
            "203.0.113.7",
            "6.6.6.6, 203.0.113.7, 127.0.0.1",
            "for=203.0.113.7, for=127.0.0.1;host=\"a\";proto=http",
            "https",
            Some("mine-1"),
        ),
        (
            "127.0.0.0/8",
            "forwarded",
            "6.6.6.6",
            "6.6.6.6, 127.0.0.1",
            "for=6.6.6.6, for=127.0.0.1;host=\"a\";proto=http",
            "https",
            Some("mine-1"),
        ),
        (
            "10.0.0.0/8",
            "x-forwarded-for",
            "127.0.0.1",
            "127.0.0.1",
            "for=127.0.0.1;host=\"a\";proto=http",
            "http",
            None,
        ),
    ] {
        origin.seen.lock().expect("lock").clear();
        let config = format!("[client]\ntrusted_proxies = [\"{trusted}\"]\nforwarded_header = \"{kind}\"\n");
        let gateway = Gateway::before(&origin, &config);
        let mut connection = gateway.connect();
        connection.send(get);
        let response = connection.response().expect("an answer");
        let seen = &origin.requests()[0];
        assert_eq!(seen.field("x-real-ip"), Some(client), "{trusted}");
        assert_eq!(seen.field("x-forwarded-for"), Some(chain), "{trusted}");
        assert_eq!(seen.field("x-forwarded-proto"), Some(proto), "{trusted}");
        assert_eq!(seen.field("forwarded"), Some(forwarded), "{trusted}");
        assert_eq!(seen.field("x-request-id"), response.field("x-request-id"), "{trusted}");
        assert_eq!(response.field("x-request-id") == Some("mine-1"), id.is_some(), "{trusted}");
        assert_eq!(gateway.log_lines(1)[0]["client"], client, "{trusted}");
    }
}

#[test]
fn a_trace_goes_on_or_begins_here() {
    let origin = Origin::hello();
    let gateway = Gateway::before(&origin, "");
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    for (fields, parent, state) in [
        (format!("traceparent: {good}\r\ntracestate: a=1\r\n"), Some(good), Some("a=1")),
        ("traceparent: 00-zz\r\ntracestate: a=1\r\n".to_owned(), None, None),
        (format!("traceparent: {good}\r\ntraceparent: {good}\r\n"), None, None),
        (String::new(), None, None),
    ] {
        origin.seen.lock().expect("lock").clear();
        let mut client = gateway.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let response = client.response().expect("an answer");
        let seen = &origin.requests()[0];
        let made = format!("00-{}-", response.field("x-request-id").expect("an id"));
        let got = seen.field("traceparent").expect("a trace");
        assert!(parent.map_or(got.len() == 55 && got.starts_with(&made), |p| p == got), "{fields}: {got}");
        assert_eq!(seen.field("tracestate"), state, "{fields}");
        assert_eq!(seen.head.matches("traceparent").count(), 1, "{fields}");
    }
}

#[test]
fn a_plain_listener_may_only_redirect() {
    let origin = Origin::hello();
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\nredirect_to_https = 443\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
        origin.address
    );
    let gateway = Gateway::start(&text, Options::default());
    let mut client = gateway.connect();
    client.send("GET /x?y HTTP/1.1\r\nHost: a.test:80\r\n\r\n");
    let response = client.response().expect("an answer");
    assert_eq!((response.status(), response.field("location")), (308, Some("https://a.test/x?y")));
    assert_eq!(response.code(), "https_only");
    assert!(origin.requests().is_empty());
}
