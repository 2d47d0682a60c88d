//! How long is waited: where routes say otherwise, and between the requests of a connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::answers::{GET, ask, full_queue};
use super::harness::{Options, PATIENCE};
use super::{Gateway, Origin};

const TICK: Duration = Duration::from_millis(100);

/// A gateway before `server`; `http` and `upstream` are the settings that the routes differ from.
fn gateway(server: std::net::SocketAddr, http: &str, upstream: &str, routes: &[(&str, &str)]) -> Gateway {
    let mut text = format!(
        "[http]\n{http}[[listeners]]\naddress = \"127.0.0.1:0\"\n\
         [[upstreams]]\nname = \"u\"\nservers = [\"{server}\"]\n{upstream}[[routes]]\nupstream = \"u\"\n"
    );
    for (path, more) in routes {
        text += &format!("[[routes]]\nupstream = \"u\"\npath = \"{path}\"\n{more}\n");
    }
    Gateway::start(&text, Options::default())
}

/// Uploads `bytes` with a tick after each, until an answer comes; its status and code.
fn upload(gateway: &Gateway, path: &str, bytes: usize) -> (u16, String) {
    let mut client = gateway.connect();
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n"));
    client.stream.set_read_timeout(Some(TICK)).expect("timeout");
    for _ in 0..bytes {
        if let Some(response) = client.response() {
            return (response.status(), response.code());
        }
        // Fails once the gateway has closed: the answer is there then.
        let _ = client.stream.write_all(b"x");
    }
    client.stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
    let response = client.response().expect("an answer");
    (response.status(), response.code())
}

#[test]
fn a_route_may_wait_longer_or_less_long_for_a_body() {
    let origin = Origin::hello();
    let slow = (408, "body_timeout".to_owned());
    let hasty = "body_timeout = \"100ms\"\nmin_rate = 1000\n";
    let calm = "body_timeout = \"30s\"\nmin_rate = 0\n";
    // A byte a tick; the patient ones take 8 of them.
    for (http, route) in [(hasty, calm), (calm, hasty)] {
        let gateway = gateway(origin.address, http, "", &[("/own", route)]);
        let (whole, own) = if http == calm { ("/", "/own") } else { ("/own", "/") };
        assert_eq!(upload(&gateway, whole, 8), (200, String::new()), "{whole}");
        assert_eq!(upload(&gateway, own, 100), slow, "{own}");
    }
    // The rate alone: no pause is too long.
    let rate = [("/own", "body_timeout = \"1s\"\nmin_rate = 1000\n")];
    let gateway = gateway(origin.address, calm, "", &rate);
    assert_eq!(upload(&gateway, "/own", 1000), slow);
}

#[test]
fn a_route_may_wait_longer_or_less_long_for_a_server() {
    let origin = Origin::start(|stream, _| {
        std::thread::sleep(8 * TICK);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let late = (504, "upstream_timeout".to_owned());
    let (hasty, calm) = ("response_timeout = \"100ms\"\n", "response_timeout = \"30s\"\n");
    let ok = (200, String::new());
    for (upstream, route, expected, of_route) in [(hasty, calm, &late, &ok), (calm, hasty, &ok, &late)] {
        let upstream = format!("{upstream}max_failures = 0\n");
        let gateway = gateway(origin.address, "", &upstream, &[("/own", route)]);
        assert_eq!(&ask(&gateway, GET), expected, "{upstream}");
        assert_eq!(&ask(&gateway, &GET.replace("/ ", "/own ")), of_route, "{route}");
    }
    let (_socket, full, _held) = full_queue();
    let route = [("/own", "connect_timeout = \"200ms\"\n")];
    let gateway = gateway(full, "", "connect_timeout = \"1m\"\n", &route);
    let own = ask(&gateway, &GET.replace("/ ", "/own "));
    assert_eq!(own, (504, "upstream_connect_timeout".to_owned()));
}

#[test]
fn a_response_that_takes_longer_than_its_route_allows_is_cut() {
    let origin = Origin::start(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        std::thread::sleep(Duration::from_secs(20));
        false
    });
    let routes = [("/own", "total_timeout = \"500ms\"")];
    let gateway = gateway(origin.address, "", "", &routes);
    let mut client = gateway.connect();
    client.stream.set_read_timeout(Some(Duration::from_secs(15))).expect("timeout");
    let started = Instant::now();
    client.send(GET.replace("/ ", "/own "));
    let rest = client.rest();
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\nhalf"), "{rest}");
    assert!(started.elapsed() < Duration::from_secs(14), "{:?}", started.elapsed());
    let line = &gateway.log_lines(1)[0];
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()), "{line}");
}

/// The memory of answering is given back a second after the last answer; the client sees nothing of that.
#[test]
fn a_connection_goes_on_after_a_rest() {
    let origin = Origin::hello();
    let gateway = gateway(origin.address, "idle_timeout = \"3s\"\n", "", &[]);
    let mut client = gateway.connect();
    for pause in [0, 1500, 0, 1200] {
        std::thread::sleep(Duration::from_millis(pause));
        client.send(GET);
        assert_eq!(client.response().expect("an answer").status(), 200, "after {pause} ms");
    }
    let answered = Instant::now();
    assert!(client.is_closed());
    assert!(answered.elapsed() > Duration::from_secs(2), "{:?}", answered.elapsed());
    assert_eq!(origin.requests().len(), 4);
}

/// Reads a response, for `slowly` no more than 200 KiB a second; the bytes that came. The client's window and segments are
/// a slow line's: with those of loopback nobody would have to wait for the first megabytes.
fn download(gateway: &Gateway, slowly: Duration) -> usize {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 << 10).expect("a small window");
    socket.set_tcp_mss(536).expect("small segments");
    socket.connect(&gateway.addresses[0].into()).expect("connected");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.write_all(GET.as_bytes()).expect("sent");
    let (mut bytes, mut piece, started) = (0, [0; 4 << 10], Instant::now());
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        bytes += n;
        if started.elapsed() < slowly {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    bytes
}

#[test]
fn a_client_that_reads_below_the_least_rate_is_cut_off() {
    const BODY: usize = 2 << 20;
    let origin = Origin::start(|stream, _| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&vec![b'x'; BODY]).is_ok()
    });
    let with = |rate: u32| {
        let http = format!("send_timeout = \"3s\"\nrequests_per_connection = 1\nmin_rate = {rate}\n");
        gateway(origin.address, &http, "", &[])
    };
    let (strict, calm) = (with(1 << 20), with(0));
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| download(&strict, Duration::MAX));
        // As slow for longer than the other is let: no pause of this client is too long.
        let whole = scope.spawn(|| download(&calm, Duration::from_secs(6)));
        assert!(download(&strict, Duration::ZERO) > BODY, "fast enough");
        assert!(cut.join().expect("joined") < BODY, "too slow on average");
        assert!(whole.join().expect("joined") > BODY, "without a rate");
    });
    let cut = strict.log_lines(2).iter().filter(|line| line["complete"] == false).count();
    assert_eq!(cut, 1);
}
