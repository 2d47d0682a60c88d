//! What an ordinary request meets.

use std::io::Write as _;
use std::time::Duration;

use super::{Gateway, Origin};
use crate::http::tests::harness::Options;

const GET: &str = "GET /a/../b?c=d HTTP/1.1\r\nHost: Example.test\r\nConnection: keep-alive\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";

#[test]
fn a_request_is_forwarded_and_logged() {
    let origin = Origin::hello();
    let gateway = Gateway::before(&origin, "");
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.send(GET);
        let response = client.response().expect("a response");
        assert_eq!((response.status(), &response.body[..]), (200, &b"hello"[..]), "{}", response.head);
        assert_eq!(response.field("server"), None);
        assert!(response.field("x-request-id").is_some_and(|id| id.len() == 32), "{}", response.head);
        assert!(response.field("date").is_some(), "{}", response.head);
    }
    let seen = origin.requests();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].line(), "GET /b?c=d HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("Example.test"));
    assert_eq!(seen[0].field("connection"), None);
    assert_eq!(seen[0].field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen[0].field("x-forwarded-proto"), Some("http"));
    let lines = gateway.log_lines(3);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["sent"], 5);
    assert_eq!(lines[0]["target"], "/a/../b?c=d");
    assert_eq!(lines[0]["client"], "127.0.0.1");
    assert!(
        gateway.metrics().contains("gateway_http_responses_total{class=\"2xx\"} 3"),
        "{}",
        gateway.metrics()
    );
}

#[test]
fn bodies_go_both_ways() {
    let origin = Origin::start(|stream, request| {
        let data = &request.body;
        let half = data.len() / 2;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut out = head.as_bytes().to_vec();
        for part in [&data[..half], &data[half..]] {
            if !part.is_empty() {
                out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                out.extend_from_slice(part);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(b"0\r\n\r\n");
        stream.write_all(&out).is_ok()
    });
    let gateway = Gateway::before(&origin, "");
    for size in [1usize, 1000, 100_000, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let mut client = gateway.connect();
        client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(&body);
        let response = client.response().expect("a response");
        assert_eq!(response.status(), 200);
        assert_eq!(origin.requests().last().expect("seen").body, body, "{size}");
        let chunks = response.body.len();
        assert!(chunks > size && chunks < size + 2_000, "{size}: {chunks}");
    }
    let mut client = gateway.connect();
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.response().expect("a response").status(), 200);
    let seen = origin.requests();
    let last = seen.last().expect("seen");
    assert_eq!(last.field("transfer-encoding"), Some("chunked"));
    assert_eq!(last.body, b"5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|stream, request| {
        let path = request.line().split(' ').nth(1).unwrap_or("").to_owned();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
        stream.write_all(head.as_bytes()).is_ok()
    });
    let gateway = Gateway::before(&origin, "");
    let mut client = gateway.connect();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    for expected in ["/1", "/2", "/3"] {
        assert_eq!(client.response().expect("a response").body, expected.as_bytes());
    }
}

#[test]
fn an_idle_client_outlives_its_request_but_not_its_timeout() {
    let origin = Origin::hello();
    let gateway = Gateway::before(&origin, "[http]\nidle_timeout = \"200ms\"\n");
    let mut client = gateway.connect();
    client.send(GET);
    assert_eq!(client.response().expect("a response").status(), 200);
    let started = std::time::Instant::now();
    assert!(client.is_closed());
    assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());
}

#[test]
fn without_servers_there_is_an_answer() {
    let origin = Origin::hello();
    let address = origin.address;
    drop(origin);
    std::thread::sleep(Duration::from_millis(50));
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{address}\"]\n"
    );
    let gateway = Gateway::start(&text, Options::default());
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response().expect("a response");
    assert_eq!((response.status(), response.code().as_str()), (502, "upstream_connect"));
}

#[test]
fn draining_finishes_what_is_begun() {
    let origin = Origin::start(|stream, _| {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").is_ok()
    });
    let mut gateway = Gateway::before(&origin, "");
    let mut busy = gateway.connect();
    busy.send(GET);
    std::thread::sleep(Duration::from_millis(100));
    let reader = std::thread::spawn(move || busy.response());
    let started = std::time::Instant::now();
    assert_eq!(gateway.drain(Duration::from_secs(5)), 0);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let response = reader.join().expect("read").expect("a response");
    assert_eq!((response.body.as_slice(), response.field("connection")), (&b"late"[..], Some("close")));
}

#[test]
fn a_route_sets_and_takes_off_fields() {
    let origin = Origin::start(|stream, _| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-debug: 1\r\ncache-control: public\r\n";
        stream.write_all(format!("{head}x-frame-options: DENY\r\n\r\n").as_bytes()).is_ok()
    });
    let gateway = Gateway::before(
        &origin,
        "[[routes]]\nupstream = \"u\"\n\
         request_headers = { set = { Host = \"inner.test\", X-Tenant = \"blue\" }, remove = [\"Cookie\"] }\n\
         response_headers = { set = { Cache-Control = \"no-store\", Server = \"edge\" }, remove = [\"x-debug\"] }\n",
    );
    let mut client = gateway.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: outer.test\r\nX-Tenant: red\r\nX-Tenant: green\r\nCookie: a=b\r\nX-Kept: 1\r\n\r\n",
    );
    let response = client.response().expect("an answer");
    assert_eq!(response.status(), 200);
    for (name, expected) in [
        ("cache-control", Some("no-store")),
        ("server", Some("edge")),
        ("x-debug", None),
        ("x-frame-options", Some("DENY")),
    ] {
        assert_eq!(response.field(name), expected, "{name} in {}", response.head);
    }
    let seen = &origin.requests()[0];
    for (name, expected) in [
        ("host", Some("inner.test")),
        ("x-forwarded-host", Some("outer.test")),
        ("x-tenant", Some("blue")),
        ("cookie", None),
        ("x-kept", Some("1")),
    ] {
        assert_eq!(seen.field(name), expected, "{name} in {}", seen.head);
    }
    assert_eq!(seen.head.matches("x-tenant").count(), 1, "{}", seen.head);
}
