//! Bodies that end otherwise than usual: answered early, with trailers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use super::harness::Options;
use super::{Gateway, Origin};

/// A server that answers as soon as the head is there and reads the rest for nothing, as nginx does.
fn hasty() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut piece = vec![0; 1 << 16];
                let mut head = Vec::new();
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                while stream.read(&mut piece).is_ok_and(|n| n > 0) {}
            });
        }
    });
    address
}

fn config(server: std::net::SocketAddr, http: &str) -> String {
    format!(
        "[http]\n{http}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{server}\"]\n"
    )
}

#[test]
fn an_upload_that_is_answered_early_keeps_its_connection() {
    let gateway = Gateway::start(&config(hasty(), ""), Options::default());
    let mut client = gateway.connect();
    for (name, framing, chunked) in [
        ("length", format!("Content-Length: {}", 1 << 20), false),
        ("chunked", "Transfer-Encoding: chunked".to_owned(), true),
        ("length again", format!("Content-Length: {}", 1 << 20), false),
    ] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        // The answer is there before the body is.
        let response = client.response().expect("an answer");
        assert_eq!((response.status(), response.field("connection")), (200, None), "{name}");
        let half = vec![b'x'; 1 << 19];
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(50));
            let chunk = if chunked { format!("{:x}\r\n", half.len()) } else { String::new() };
            client.stream.write_all(chunk.as_bytes()).expect("taken");
            client.stream.write_all(&half).expect("taken");
            client.stream.write_all(if chunked { b"\r\n" } else { b"" }).expect("taken");
        }
        client.stream.write_all(if chunked { b"0\r\n\r\n" } else { b"" }).expect("taken");
    }
    assert!(client.whatever_follows().is_empty());
}

#[test]
fn a_refused_upload_is_read_until_the_answer_is() {
    let origin = Origin::hello();
    for (length, status) in [(1u64 << 20, 413), (1 << 40, 413)] {
        let gateway = Gateway::start(&config(origin.address, "max_body = 1000"), Options::default());
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        // A client that writes all before it reads must not be reset while it does.
        for _ in 0..16 {
            client.stream.write_all(&[b'x'; 1 << 16]).expect("taken");
        }
        let response = client.response().expect("an answer");
        assert_eq!((response.status(), response.field("connection")), (status, Some("close")));
        assert!(client.is_closed());
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn what_a_client_goes_on_sending_is_bounded_in_time() {
    let gateway = Gateway::start(&config(hasty(), ""), Options::default());
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx");
    assert_eq!(client.response().expect("an answer").status(), 200);
    // Nothing more comes: after a pause the connection goes.
    assert!(client.is_closed());
}

#[test]
fn trailers_go_both_ways() {
    let origin = Origin::start(|stream, request| {
        let fields = "X-Sum: 7\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n";
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
        let _ = request;
        stream.write_all(format!("{head}{fields}\r\n").as_bytes()).is_ok()
    });
    let gateway = Gateway::before(&origin, "");
    for (te, expected) in [("TE: trailers\r\n", "0\r\nx-sum: 7\r\n\r\n"), ("", "0\r\n\r\n")] {
        origin.seen.lock().expect("lock").clear();
        let text = gateway.exchange(format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{te}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nX-Check: 1\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        ));
        assert!(text.ends_with(&format!("2\r\nok\r\n{expected}")), "{te}: {text}");
        let body = String::from_utf8_lossy(&origin.requests()[0].body).into_owned();
        assert_eq!(body, "3\r\nabc\r\n0\r\nx-check: 1\r\n\r\n", "{te}");
    }
}
