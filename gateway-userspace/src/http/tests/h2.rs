//! HTTP/2 on both sides, trailers and streams both ways as gRPC uses them, TLS on both sides.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{Gateway, Options, Origin};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), work).await.expect("in time") })
}

type Frames = tokio_stream::Receiver;

/// A body fed through a channel.
mod tokio_stream {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::{Bytes, Frame, Infallible};

    pub(super) struct Receiver(pub(super) tokio::sync::mpsc::Receiver<Frame<Bytes>>);

    impl hyper::body::Body for Receiver {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|frame| frame.map(Ok))
        }
    }
}

/// Echoes each piece of the request as it comes, then sends trailers with what the request was.
async fn echo(request: Request<Incoming>) -> Result<Response<Frames>, Infallible> {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let seen = format!("{} {:?}", request.uri(), request.headers().get("te"));
    let request_path = request.uri().path().to_owned();
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && sender.send(Frame::data(data)).await.is_err()
            {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("seen", HeaderValue::from_str(&seen).expect("value"));
        let _ = sender.send(Frame::trailers(trailers)).await;
    });
    let mut response = Response::new(tokio_stream::Receiver(receiver));
    if request_path == "/fat" {
        let value = HeaderValue::from_str(&"y".repeat(70_000)).expect("value");
        response.headers_mut().insert("x-fat", value);
    }
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// An origin that speaks HTTP/2 without TLS, on the test's own runtime.
async fn h2_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = hyper::service::service_fn(echo);
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection);
        }
    });
    address
}

fn config(upstream: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\n{upstream}\n")
}

async fn h2_client<B>(gateway: SocketAddr) -> hyper::client::conn::http2::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let socket = TcpStream::connect(gateway).await.expect("connected");
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(socket))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    sender
}

#[test]
fn streams_and_trailers_go_both_ways() {
    block_on(async {
        let origin = h2_origin().await;
        let gateway = Gateway::start(
            &config(&format!("servers = [\"{origin}\"]\nprotocol = \"http2\"")),
            Options::default(),
        );
        let mut client = h2_client::<Frames>(gateway.addresses[0]).await;
        for _ in 0..2 {
            let (sender, receiver) = tokio::sync::mpsc::channel(4);
            let request = Request::post("http://a.test/echo.Echo/Stream?x=1")
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(tokio_stream::Receiver(receiver))
                .expect("a request");
            let answer = client.send_request(request);
            sender.send(Frame::data(Bytes::from_static(b"one"))).await.expect("sent");
            let mut response = answer.await.expect("a response");
            assert_eq!(response.status(), 200);
            // The answer to the first message is read before the second is sent.
            for message in ["one", "two", "three"] {
                if message != "one" {
                    sender.send(Frame::data(Bytes::from_static(message.as_bytes()))).await.expect("sent");
                }
                let frame = response.frame().await.expect("a frame").expect("whole");
                assert_eq!(frame.into_data().expect("data"), message);
            }
            drop(sender);
            let trailers = response.frame().await.expect("a frame").expect("whole").into_trailers();
            let trailers = trailers.expect("trailers");
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers["seen"], "http://a.test/echo.Echo/Stream?x=1 Some(\"trailers\")");
        }
        let lines = tokio::task::spawn_blocking(move || gateway.log_lines(2)).await.expect("read");
        assert_eq!((&lines[0]["protocol"], &lines[0]["sent"]), (&"HTTP/2".into(), &11.into()));
    });
}

#[test]
fn the_fields_of_a_server_are_bounded() {
    block_on(async {
        let origin = h2_origin().await;
        let gateway = Gateway::start(
            &config(&format!("servers = [\"{origin}\"]\nprotocol = \"http2\"")),
            Options::default(),
        );
        let asked = tokio::task::spawn_blocking(move || {
            ["/fat", "/thin"].map(|path| {
                let mut client = gateway.connect();
                client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                let response = client.response().expect("an answer");
                (response.status(), response.code())
            })
        });
        let expected = [(502, "upstream_closed".to_owned()), (200, String::new())];
        assert_eq!(asked.await.expect("asked"), expected);
    });
}

#[test]
fn a_websocket_over_h2_is_an_upgrade_of_the_server() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let origin = Origin::start(|stream, request| {
        let Some(key) = request.field("sec-websocket-key") else {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok();
        };
        let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let wrong = request.line().contains("/wrong");
        let sum = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            if wrong { b"x" } else { text.as_bytes() },
        );
        let accept = crate::http::websocket::base64(sum.as_ref());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\nwelcome"
        );
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
    });
    let routes =
        "[[routes]]\nupstream = \"u\"\nupgrade = true\n[[routes]]\nupstream = \"u\"\npath = \"/plain\"\n";
    let gateway = Gateway::before(&origin, routes);
    block_on(async {
        let mut client = h2_client::<Empty<Bytes>>(gateway.addresses[0]).await;
        let get = Request::get("http://a.test/plain").body(Empty::new()).expect("a request");
        assert_eq!(client.send_request(get).await.expect("a response").status(), 200);
        for (path, status) in [("/ws", 200), ("/wrong", 502), ("/plain", 502)] {
            let request = Request::connect(format!("http://a.test{path}"))
                .extension(hyper::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13")
                .body(Empty::new())
                .expect("a request");
            let response = client.send_request(request).await.expect("a response");
            assert_eq!(response.status(), status, "{path}");
            if status != 200 {
                continue;
            }
            assert!(!response.headers().contains_key("sec-websocket-accept"));
            let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"));
            tunnel.write_all(b"hello").await.expect("sent");
            tunnel.shutdown().await.expect("shut");
            let mut text = String::new();
            tunnel.read_to_string(&mut text).await.expect("read");
            assert_eq!(text, "welcomeHELLO");
        }
    });
    let seen = origin.requests();
    assert_eq!((seen[1].line(), seen[1].field("upgrade")), ("GET /ws HTTP/1.1", Some("websocket")));
    assert_eq!(seen.last().expect("one").field("upgrade"), None, "a route without upgrades offers none");
}

#[test]
fn h2_clients_meet_the_same_rules() {
    let origin = Origin::hello();
    let gateway =
        Gateway::before(&origin, "[http]\nmax_headers = 10\nmax_uri_bytes = 200\nmax_body = 1000\n");
    let address = gateway.addresses[0];
    block_on(async {
        let mut client = h2_client::<http_body_util::combinators::BoxBody<Bytes, Infallible>>(address).await;
        let many = |mut r: http::request::Builder| {
            for n in 0..12 {
                r = r.header(format!("x-{n}"), "y");
            }
            r
        };
        let get = |uri: &str| Request::get(format!("http://a.test{uri}"));
        let body = |n: usize| http_body_util::Full::new(Bytes::from(vec![b'x'; n])).boxed();
        for (name, request, status) in [
            ("plain", get("/x").body(Empty::new().boxed()), 200),
            ("host beside authority", get("/x").header("host", "a.test").body(Empty::new().boxed()), 200),
            ("another host", get("/x").header("host", "b.test").body(Empty::new().boxed()), 400),
            ("fields", many(get("/x")).body(Empty::new().boxed()), 431),
            ("target", get(&format!("/{}", "a".repeat(300))).body(Empty::new().boxed()), 414),
            ("traversal", get("/../x").body(Empty::new().boxed()), 400),
            ("body", Request::post("http://a.test/").body(body(1000)), 200),
            ("body past the bound", Request::post("http://a.test/").body(body(1001)), 413),
            (
                "method",
                Request::builder().method("PURGE").uri("http://a.test/").body(Empty::new().boxed()),
                405,
            ),
        ] {
            let response = client.send_request(request.expect("a request")).await.expect("a response");
            assert_eq!(response.status(), status, "{name}");
            assert!(!response.headers().contains_key("connection"), "{name}");
        }
    });
    assert!(origin.requests().iter().all(|r| r.field("host") == Some("a.test")));
}

/// Certificates of a test, as files.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-h2-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    /// An authority, and a certificate for `localhost` that it signed.
    fn make(&self) -> (PathBuf, PathBuf, PathBuf) {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).expect("params");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().expect("key");
        let ca = params.self_signed(&ca_key).expect("certificate");
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).expect("certificate");
        let paths = (self.0.join("ca.pem"), self.0.join("cert.pem"), self.0.join("key.pem"));
        for (path, text) in
            [(&paths.0, ca.pem()), (&paths.1, certificate.pem()), (&paths.2, key.serialize_pem())]
        {
            std::fs::write(path, text).expect("written");
        }
        paths
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(path: &PathBuf) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).expect("a file").collect::<Result<_, _>>().expect("certificates")
}

/// One GET over TLS; what came back, or why nothing did.
fn tls_get(address: SocketAddr, ca: &PathBuf, own: Option<(&PathBuf, &PathBuf)>) -> Result<String, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(load(ca)[0].clone()).expect("an authority");
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(load(chain), PrivateKeyDer::from_pem_file(key).expect("a key"))
            .expect("a certificate"),
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
    let socket = std::net::TcpStream::connect(address).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let mut stream = rustls::StreamOwned::new(session, socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Ssl-Client-Sha256: spoofed\r\nX-SSL-Client-Verify: SUCCESS\r\n\r\n").map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

#[test]
fn clients_certificates() {
    let files = Files::new("mtls");
    let (ca, certificate, key) = files.make();
    let origin = Origin::hello();
    for (mode, with, without) in [("required", true, false), ("optional", true, true), ("off", true, true)] {
        let client_ca = if mode == "off" { String::new() } else { format!("client_ca = {ca:?}\n") };
        let gateway = Gateway::start(
            &format!(
                "[tls]\ncertificates = [{{ certificate = {certificate:?}, key_file = {key:?} }}]\nclient_auth = \"{mode}\"\n{client_ca}\
                 [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
                origin.address
            ),
            Options::default(),
        );
        origin.seen.lock().expect("lock").clear();
        let shown = tls_get(gateway.addresses[0], &ca, Some((&certificate, &key)));
        assert_eq!(shown.is_ok_and(|t| t.contains("hello")), with, "{mode}");
        let told = origin.requests()[0].field("x-ssl-client-sha256").map(str::len);
        assert_eq!(told, (mode != "off").then_some(64), "{mode}");
        let names = origin.requests()[0].field("x-ssl-client-san").map(str::to_owned);
        assert_eq!(names.as_deref(), (mode != "off").then_some("DNS:localhost"), "{mode}");
        let verify = origin.requests()[0].field("x-ssl-client-verify").map(str::to_owned);
        assert_eq!(verify.as_deref(), (mode != "off").then_some("SUCCESS"), "{mode}");
        let bare = tls_get(gateway.addresses[0], &ca, None);
        assert_eq!(bare.is_ok_and(|t| t.contains("hello")), without, "{mode}");
        let line = &gateway.log_lines(1)[0];
        assert_eq!(line["tls"], "TLSv1.3");
        assert!(line["ja4"].as_str().is_some_and(|j| j.starts_with("t13d")), "{line}");
    }
}

#[test]
fn tls_to_servers_is_verified() {
    let files = Files::new("upstream");
    let (ca, certificate, key) = files.make();
    let other = Files::new("upstream-other");
    let (wrong_ca, ..) = other.make();
    let plain = Origin::hello();
    // A gateway with TLS is the server here.
    let server = Gateway::start(
        &format!(
            "[tls]\ncertificates = [{{ certificate = {certificate:?}, key_file = {key:?} }}]\n\
             [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
            plain.address
        ),
        Options::default(),
    );
    let port = server.addresses[0].port();
    // Another one wants a certificate of the gateway's.
    let asking = Gateway::start(
        &format!(
            "[tls]\ncertificates = [{{ certificate = {certificate:?}, key_file = {key:?} }}]\nclient_auth = \"required\"\n\
             client_ca = {ca:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n\
             [[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
            plain.address
        ),
        Options::default(),
    );
    let asking_port = asking.addresses[0].port();
    let own = format!("ca = {ca:?}\ncertificate = {certificate:?}\nkey_file = {key:?}");
    for (name, servers, tls, protocol, status) in [
        ("with a certificate of its own", format!("localhost:{asking_port}"), own.clone(), "http1", 200),
        ("with one, HTTP/2", format!("localhost:{asking_port}"), own, "http2", 200),
        ("good", format!("localhost:{port}"), format!("ca = {ca:?}"), "http1", 200),
        ("good, HTTP/2", format!("localhost:{port}"), format!("ca = {ca:?}"), "http2", 200),
        (
            "named",
            format!("127.0.0.1:{port}"),
            format!("ca = {ca:?}\nserver_name = \"localhost\""),
            "http1",
            200,
        ),
        ("another name", format!("127.0.0.1:{port}"), format!("ca = {ca:?}"), "http1", 502),
        ("another authority", format!("localhost:{port}"), format!("ca = {wrong_ca:?}"), "http1", 502),
    ] {
        let upstream =
            format!("servers = [\"{servers}\"]\nprotocol = \"{protocol}\"\n[upstreams.tls]\n{tls}");
        let gateway = Gateway::start(&config(&upstream), Options::default());
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let response = client.response().expect("an answer");
            assert_eq!(response.status(), status, "{name}");
            let expected = if status == 200 { "" } else { "upstream_handshake" };
            assert_eq!(response.code(), expected, "{name}");
        }
    }
    let bare = format!("servers = [\"localhost:{asking_port}\"]\n[upstreams.tls]\nca = {ca:?}");
    let gateway = Gateway::start(&config(&bare), Options::default());
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        client.response().expect("an answer").status(),
        502,
        "without the certificate that is asked for"
    );
}
