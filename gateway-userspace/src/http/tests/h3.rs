//! HTTP/3: a client of the same crates, and aioquic's where `cargo xtask setup` has put it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{Method, Request, StatusCode};

use super::harness::{Gateway, Options, Origin};

pub(super) type Sender = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

/// A gateway with HTTP/3, and where.
fn gateway(origin: &Origin, more: &str, listener: &str) -> (Gateway, SocketAddr) {
    let text = format!(
        "{more}\n[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\nhttp3 = true\n{listener}\n\
         [[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
        origin.address
    );
    let gateway = Gateway::start(&text, Options::default());
    let address = gateway.addresses[0];
    (gateway, address)
}

/// Believes any server: who it is is not the matter here.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has no TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's certificate with its key.
pub(super) type Identity =
    (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

async fn connect(
    address: SocketAddr,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    connect_as(address, None).await
}

pub(super) async fn connect_as(
    address: SocketAddr,
    identity: Option<Identity>,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut tls = match identity {
        None => tls.with_no_client_auth(),
        Some((chain, key)) => tls.with_client_auth_cert(chain, key).expect("an identity"),
    };
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("QUIC");
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a port");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let connection = endpoint.connect(address, "localhost").expect("a name").await?;
    Ok((endpoint, connection))
}

/// Connects and runs `work` with a sender of requests, within ten seconds.
fn with_client<T>(address: SocketAddr, work: impl AsyncFnOnce(Sender, quinn::Connection) -> T) -> T {
    with_client_as(address, None, work)
}

/// As [`with_client`], with a certificate.
pub(super) fn with_client_as<T>(
    address: SocketAddr,
    identity: Option<Identity>,
    work: impl AsyncFnOnce(Sender, quinn::Connection) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let all = async {
            let (endpoint, connection) = connect_as(address, identity).await.expect("connected");
            let quic = h3_quinn::Connection::new(connection.clone());
            let (mut driver, sender) = h3::client::new(quic).await.expect("HTTP/3");
            let driving = tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
            let result = work(sender, connection).await;
            driving.abort();
            drop(endpoint);
            result
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("in time")
    })
}

/// One request; status, fields and body of the answer, or that there was none.
pub(super) async fn ask(
    sender: &mut Sender,
    request: Request<()>,
    body: &[u8],
) -> Option<(StatusCode, http::HeaderMap, Vec<u8>)> {
    let mut stream = sender.send_request(request).await.ok()?;
    for piece in body.chunks(10_000) {
        if stream.send_data(Bytes::copy_from_slice(piece)).await.is_err() {
            break;
        }
    }
    let _ = stream.finish().await;
    let response = stream.recv_response().await.ok()?;
    let mut got = Vec::new();
    while let Some(mut piece) = stream.recv_data().await.ok()? {
        got.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    let (parts, ()) = response.into_parts();
    Some((parts.status, parts.headers, got))
}

pub(super) fn request(method: Method, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

#[test]
fn requests_meet_the_same_pipeline() {
    let origin = Origin::start(|stream, request| {
        use std::io::Write as _;
        let length = if request.line().starts_with("HEAD ") { 7 } else { request.body.len() };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nserver: secret\r\nx-a: b\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&request.body).is_ok()
    });
    let (gateway, address) =
        gateway(&origin, "[http]\nmax_body = \"2MiB\"\nmax_headers = 16\nmax_uri_bytes = 1000\n", "");
    let big: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let many: Vec<(String, String)> = (0..30).map(|i| (format!("x-{i}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let long = format!("/{}", "a".repeat(2000));
    with_client(address, async |mut sender, _| {
        for (what, method, path, fields, body, status, code) in [
            ("get", Method::GET, "/a/../b?c=d", &[][..], &b""[..], 200, ""),
            ("post", Method::POST, "/up", &[("content-length", "1000000")][..], &big[..], 200, ""),
            ("length", Method::POST, "/up", &[("content-length", "5")][..], b"hello", 200, ""),
            ("head", Method::HEAD, "/h", &[][..], b"", 200, ""),
            (
                "too long a body",
                Method::POST,
                "/up",
                &[("content-length", "9999999")][..],
                b"x",
                413,
                "body_too_large",
            ),
            (
                "more than told",
                Method::POST,
                "/up",
                &[("content-length", "3")][..],
                b"hello",
                400,
                "body_framing",
            ),
            (
                "less than told",
                Method::POST,
                "/up",
                &[("content-length", "9")][..],
                b"hello",
                400,
                "body_framing",
            ),
            ("no length", Method::POST, "/up", &[("content-length", "x")][..], b"", 400, "content_length"),
            (
                "two lengths",
                Method::POST,
                "/up",
                &[("content-length", "1"), ("content-length", "1")][..],
                b"a",
                400,
                "content_length",
            ),
            (
                "chunked",
                Method::POST,
                "/up",
                &[("transfer-encoding", "chunked")][..],
                b"",
                400,
                "connection_header",
            ),
            ("connection", Method::GET, "/", &[("connection", "close")][..], b"", 400, "connection_header"),
            ("te", Method::GET, "/", &[("te", "gzip")][..], b"", 400, "connection_header"),
            ("fields", Method::GET, "/", &many[..], b"", 431, "too_many_headers"),
            ("target", Method::GET, &long, &[][..], b"", 414, "uri_too_long"),
            ("method", Method::TRACE, "/", &[][..], b"", 405, "method_not_allowed"),
            ("and still", Method::GET, "/last", &[][..], b"", 200, ""),
        ] {
            let answer = ask(&mut sender, request(method.clone(), path, fields), body).await;
            let (got, headers, text) = answer.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(got.as_u16(), status, "{what}: {}", String::from_utf8_lossy(&text));
            assert!(
                headers.contains_key("date") && headers.contains_key("x-request-id"),
                "{what}: {headers:?}"
            );
            assert!(!headers.contains_key("server"), "{what}: {headers:?}");
            if status == 200 && method == Method::POST {
                assert!(text == body, "{what}: {} bytes", text.len());
            }
            if method == Method::HEAD {
                assert_eq!(
                    (&headers["content-length"], text.len()),
                    (&http::HeaderValue::from_static("7"), 0)
                );
            }
            assert!(
                String::from_utf8_lossy(&text).contains(code),
                "{what}: {}",
                String::from_utf8_lossy(&text)
            );
        }
    });
    let seen = origin.requests();
    assert_eq!(seen[0].line(), "GET /b?c=d HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("localhost"));
    assert_eq!(seen[0].field("x-forwarded-proto"), Some("https"));
    assert_eq!(seen[0].field("x-forwarded-for"), Some("127.0.0.1"));
    assert!(seen.iter().all(|r| !r.line().contains("/ HTTP")), "a refused request reached the origin");
    assert_eq!(gateway.log_lines(1)[0]["protocol"], "HTTP/3");
    assert!(gateway.metrics().contains("gateway_http_connections_total{protocol=\"h3\"} 1"));
}

#[test]
fn many_streams_at_once_and_a_drain_in_the_middle() {
    let origin = Origin::start(|stream, _| {
        use std::io::Write as _;
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let (mut gateway, address) = gateway(&origin, "", "");
    with_client(address, async |sender, connection| {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let mut sender = sender.clone();
            asked.spawn(async move { ask(&mut sender, request(Method::GET, "/", &[]), b"").await });
        }
        while origin.requests().len() < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let drained = tokio::task::spawn_blocking(move || gateway.drain(Duration::from_secs(5)));
        let answers = asked.join_all().await;
        assert!(answers.iter().all(|a| a.as_ref().is_some_and(|(status, ..)| *status == 200)), "{answers:?}");
        assert_eq!(drained.await.expect("drained"), 0);
        connection.closed().await;
        let again = tokio::time::timeout(Duration::from_millis(500), connect(address)).await;
        assert!(!matches!(again, Ok(Ok(_))), "nobody listens any more");
    });
}

#[test]
fn connections_of_a_source_are_bounded() {
    let origin = Origin::hello();
    let (gateway, address) = gateway(&origin, "[http]\nmax_connections_per_source = 2\n", "");
    with_client(address, async |mut sender, first| {
        assert!(ask(&mut sender, request(Method::GET, "/", &[]), b"").await.is_some());
        let (_second_endpoint, second) = connect(address).await.expect("the second");
        let (_third_endpoint, third) =
            connect(address).await.expect("the handshake shows whose address it is");
        third.closed().await;
        assert!(first.close_reason().is_none() && second.close_reason().is_none());
        assert!(ask(&mut sender, request(Method::GET, "/", &[]), b"").await.is_some());
    });
    assert!(gateway.metrics().contains("gateway_listen_refused_connections_total{bound=\"source\"} 1"));
}

#[test]
fn requests_of_a_connection_are_bounded() {
    let origin = Origin::hello();
    let (_gateway, address) = gateway(&origin, "[http]\nrequests_per_connection = 2\n", "");
    with_client(address, async |mut sender, connection| {
        for _ in 0..2 {
            assert!(ask(&mut sender, request(Method::GET, "/", &[]), b"").await.is_some());
        }
        assert!(ask(&mut sender, request(Method::GET, "/third", &[]), b"").await.is_none());
        connection.closed().await;
    });
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn other_versions_tell_of_it() {
    let origin = Origin::hello();
    let (_gateway, address) = gateway(&origin, "", "");
    for version in ["--http1.1", "--http2"] {
        let out = std::process::Command::new("curl")
            .args(["-sk", "-D", "-", "-o", "/dev/null", "--max-time", "10", version])
            .arg(format!("https://localhost:{}/", address.port()))
            .output()
            .expect("curl is installed");
        let head = String::from_utf8_lossy(&out.stdout).to_ascii_lowercase();
        let expected = format!("alt-svc: h3=\":{}\"; ma=86400", address.port());
        assert!(head.contains(&expected), "{version}: {head}");
    }
}

/// aioquic in a folder below `target/`, where `cargo xtask setup` puts it.
fn python() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let found =
        test.ancestors().map(|folder| folder.join("python/bin/python")).find(|python| python.exists());
    found.expect("no target/python above the test: run `cargo xtask setup`")
}

/// What the client prints that does `work` at a gateway in front of `origin`.
fn aioquic(origin: &Origin, more: &str, work: &str) -> (Gateway, Vec<String>) {
    let (gateway, address) = gateway(origin, more, "");
    let out = std::process::Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/h3_client.py"))
        .args([&address.port().to_string(), work])
        .output()
        .expect("python runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    (gateway, text.lines().map(str::to_owned).collect())
}

#[test]
fn aioquic_is_served() {
    let origin = Origin::hello();
    let (_gateway, lines) = aioquic(&origin, "", "together");
    assert_eq!(lines, vec!["200 hello"; 10]);
    let seen = origin.requests();
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().any(|r| r.body.len() == 100_000), "the upload arrived whole");
}

#[test]
fn a_request_of_a_wrong_form_costs_its_stream_alone() {
    let origin = Origin::hello();
    let (gateway, lines) = aioquic(&origin, "", "odd");
    let expected = [
        ("another host", "reset 0x10e"),
        // These three are malformed as well; the h3 crate takes them and doesn't tell. Nothing of them goes on but
        // one path, and fields that are none.
        ("two paths", "200 hello"),
        ("no method", "reset 0x10e"),
        ("no path", "reset 0x10e"),
        ("no authority", "reset 0x10e"),
        ("a path that is none", "reset 0x10e"),
        ("a status", "200 hello"),
        ("an unknown pseudo-field", "reset 0x10e"),
        ("a pseudo-field after others", "200 hello"),
        ("upper case", "reset 0x10e"),
        ("a line break", "reset 0x10e"),
        ("the same host", "200 hello"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(name, got)| format!("{name}: {got}, then 200 hello")).collect();
    assert_eq!(lines, expected);
    let seen = origin.requests();
    assert_eq!(seen.len(), 4 + lines.len(), "one upstream for each that was answered");
    assert!(seen.iter().all(|r| !r.head.contains("status") && r.field("x-b").is_none()), "{seen:?}");
    assert!(
        gateway.metrics().contains("gateway_http_connections_total{protocol=\"h3\"} 1"),
        "one connection"
    );
}

#[test]
fn many_handshakes_at_once_have_to_show_their_address() {
    let origin = Origin::hello();
    let (_gateway, lines) = aioquic(&origin, "", "retry");
    assert_eq!(lines, ["retry 200 hello"]);
}

#[test]
fn a_head_that_does_not_come_ends_its_stream_alone() {
    let origin = Origin::hello();
    let (gateway, lines) = aioquic(&origin, "[http]\nheader_timeout = \"500ms\"\n", "slow");
    let expected = ["half a head: reset 0x10d, then 200 hello", "no head: reset 0x10d, then 200 hello"];
    assert_eq!(lines, expected);
    assert!(gateway.metrics().contains("gateway_http_denied_total{code=\"header_timeout\"} 1"));
}

#[test]
fn handshakes_at_a_time_are_bounded() {
    let origin = Origin::hello();
    let (_gateway, lines) = aioquic(&origin, "[tls]\nhandshake_timeout = \"60s\"\n", "full");
    // 2 is CONNECTION_REFUSED (RFC 9000, section 20.1).
    assert_eq!(lines, ["512 refused 2", "200 hello"]);
}
