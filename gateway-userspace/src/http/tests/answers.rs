//! Refusals whose codes no other test reads.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::harness::{Gateway, Options, Origin};

pub(super) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The answer over a new connection: status and code.
pub(super) fn ask(gateway: &Gateway, bytes: &str) -> (u16, String) {
    let mut client = gateway.connect();
    client.send(bytes);
    let response = client.response().expect("an answer");
    (response.status(), response.code())
}

fn before(servers: &str, more: &str) -> Gateway {
    let text =
        format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nservers = [{servers}]\n{more}");
    Gateway::start(&text, Options::default())
}

/// A server that is there and takes no connection: its queue is full.
pub(super) fn full_queue() -> (Socket, SocketAddr, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(0).expect("listens");
    let address = socket.local_addr().expect("address").as_socket().expect("IPv4");
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        held.push(stream);
        assert!(held.len() < 100, "the queue never fills");
    }
    (socket, address, held)
}

#[test]
fn servers_that_cannot_be_reached() {
    let (_socket, full, _held) = full_queue();
    let gateway = before(&format!("\"{full}\""), "connect_timeout = \"200ms\"\n");
    assert_eq!(ask(&gateway, GET), (504, "upstream_connect_timeout".to_owned()));

    // A label of 64 letters is no name: nobody is asked for it.
    let gateway = before(&format!("\"{}.test:80\"", "a".repeat(64)), "");
    assert_eq!(ask(&gateway, GET), (502, "upstream_name".to_owned()));

    // Both are left out after their first failure.
    let dead: Vec<SocketAddr> = (0..2).map(|_| Origin::hello().address).collect();
    std::thread::sleep(Duration::from_millis(50));
    let gateway = before(
        &format!("\"{}\", \"{}\"", dead[0], dead[1]),
        "max_failures = 1\nfailure_pause = \"1h\"\nbalance = \"round-robin\"\n",
    );
    let started = Instant::now();
    let mut got = ask(&gateway, GET);
    while got == (502, "upstream_connect".to_owned()) {
        assert!(started.elapsed() < Duration::from_secs(10), "never left out");
        got = ask(&gateway, GET);
    }
    assert_eq!(got, (503, "upstream_unhealthy".to_owned()));
}

#[test]
fn hosts_routes_and_proxies_that_are_not_known() {
    let origin = Origin::hello();
    let text = format!(
        "[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n[http]\nhosts = [\"a\"]\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n\
         [[routes]]\nupstream = \"u\"\npath_prefix = \"/here\"\n",
        origin.address
    );
    let gateway = Gateway::start(&text, Options::default());
    let there = GET.replace("/ ", "/here ");
    for (bytes, expected) in [
        (there.replace("Host: a", "Host: b"), (421, "misdirected")),
        (GET.to_owned(), (404, "no_route")),
        (there.replace("\r\n\r\n", "\r\nX-Forwarded-For: nobody\r\n\r\n"), (400, "forwarded_header")),
    ] {
        let (status, code) = ask(&gateway, &bytes);
        assert_eq!((status, code.as_str()), expected, "{bytes}");
    }
    assert!(origin.requests().is_empty());
    assert_eq!(ask(&gateway, &there).0, 200);
}

#[test]
fn paths_that_have_no_form() {
    let origin = Origin::hello();
    let gateway = Gateway::before(&origin, "");
    for (path, code) in
        [("/%zz", "path_escape"), ("/%", "path_escape"), ("/a%00", "path_nul"), ("/../a", "path_traversal")]
    {
        assert_eq!(ask(&gateway, &GET.replace("/ ", &format!("{path} "))), (400, code.to_owned()), "{path}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_is_told_of_in_the_log() {
    let origin = Origin::hello();
    let gateway = Gateway::before(&origin, "");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx");
    drop(client);
    let line = &gateway.log_lines(1)[0];
    assert_eq!((&line["denied"], &line["status"]), (&"client_closed".into(), &400.into()), "{line}");
}
