//! ACME against pebble, the test authority: both challenges, renewal, rejected nonces, an outage.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::acme::{self, Challenge, Challenges, Settings, Store, TLS_ALPN_PROTOCOL};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// A program that stops with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: &[&str], folder: &Path) -> Running {
    let log = fs::File::create(folder.join(format!("{program}.log"))).expect("log");
    let child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("PEBBLE_VA_NOSLEEP", "1")
        // A third of all nonces is refused, as the authority may do at any time.
        .env("PEBBLE_WFE_NONCEREJECT", "33")
        .env("PEBBLE_AUTHZREUSE", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("{program} can't be started ({e}): install Debian's package pebble"));
    Running(child)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port()).expect("port")
}

/// Ports and files of one authority.
struct Lab {
    folder: PathBuf,
    directory: u16,
    dns: u16,
    http: u16,
    tls: u16,
}

impl Lab {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-acme-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("folder");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
        fs::write(folder.join("authority.crt"), made.cert.pem()).expect("certificate");
        fs::write(folder.join("authority.key"), made.signing_key.serialize_pem()).expect("key");
        let lab =
            Self { folder, directory: free_port(), dns: free_port(), http: free_port(), tls: free_port() };
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", lab.directory),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": lab.folder.join("authority.crt"),
            "privateKey": lab.folder.join("authority.key"),
            "httpPort": lab.http, "tlsPort": lab.tls,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        fs::write(lab.folder.join("pebble.json"), config.to_string()).expect("config");
        lab
    }

    fn authority(&self) -> (Running, Running) {
        let dns = format!("127.0.0.1:{}", self.dns);
        let off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ""];
        let args =
            [&["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-dns01", &dns][..], &off[..]].concat();
        let names = start("pebble-challtestsrv", &args, &self.folder);
        let pebble = start("pebble", &["-config", "pebble.json", "-dnsserver", &dns], &self.folder);
        (names, pebble)
    }

    fn settings(&self, challenge: Challenge, names: &[&[&str]]) -> Settings {
        Settings {
            directory: format!("https://localhost:{}/dir", self.directory),
            roots: Some(self.folder.join("authority.crt")),
            contact: Some("mailto:admin@example.org".to_owned()),
            certificates: names.iter().map(|n| n.iter().map(ToString::to_string).collect()).collect(),
            challenge,
            folder: self.folder.join("store"),
            retry: Duration::from_millis(300),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Answers HTTP-01 as a listener of the gateway does.
async fn serve_http(port: u16, challenges: Arc<Challenges>) {
    let listener =
        tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("bind");
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..read]).into_owned();
        let token =
            head.split_whitespace().nth(1).and_then(|p| p.strip_prefix("/.well-known/acme-challenge/"));
        let answer = match token.and_then(|t| challenges.http_01(t)) {
            Some(body) => {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
            }
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[derive(Debug)]
struct Proofs(Arc<Challenges>);

impl ResolvesServerCert for Proofs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.tls_alpn_01(hello.server_name()?)
    }
}

/// Answers TLS-ALPN-01 as a listener of the gateway does.
async fn serve_tls(port: u16, challenges: Arc<Challenges>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Proofs(challenges)));
    config.alpn_protocols = vec![TLS_ALPN_PROTOCOL.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener =
        tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("bind");
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
    }
}

/// Runs the renewal task until `count` certificates came, or a minute is over.
async fn obtained(settings: Settings, challenges: Arc<Challenges>, count: usize) -> Vec<String> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let task = tokio::spawn(acme::run(
        settings,
        challenges,
        Arc::new(move |name: &str| {
            let _ = sender.send(name.to_owned());
        }),
    ));
    let mut names = Vec::new();
    while names.len() < count {
        match tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await {
            Ok(Some(name)) => names.push(name),
            _ => break,
        }
    }
    task.abort();
    names
}

fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).expect("file").permissions().mode() & 0o777
}

fn leaf(file: &Path) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_file(file).expect("certificate").to_vec()
}

#[tokio::test]
async fn http_01_issues_renews_and_survives_an_outage() {
    let lab = Lab::new("http");
    let challenges = Arc::new(Challenges::default());
    tokio::spawn(serve_http(lab.http, Arc::clone(&challenges)));
    let settings =
        lab.settings(Challenge::Http01, &[&["www.example.test", "example.test"], &["api.example.test"]]);
    let store = Store::open(&settings.folder).expect("store");

    // The authority is away at first: the task keeps trying.
    let waiting = tokio::spawn(obtained(settings.clone(), Arc::clone(&challenges), 2));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let authority = lab.authority();
    let names = waiting.await.expect("task");
    assert_eq!(names.len(), 2, "{names:?}");
    let (chain, key) = store.paths("www.example.test");
    assert_eq!(
        (mode(&chain), mode(&key), mode(&settings.folder.join("account.json"))),
        (0o600, 0o600, 0o600)
    );
    let parsed = leaf(&chain);
    let (_, certificate) = x509_parser::parse_x509_certificate(&parsed).expect("X.509");
    let san = certificate.subject_alternative_name().expect("extension").expect("names");
    assert_eq!(san.value.general_names.len(), 2);

    // A certificate that has ended is ordered again; the fresh one is left alone.
    let mut params = rcgen::CertificateParams::new(vec!["www.example.test".to_owned()]).expect("params");
    params.not_before = (SystemTime::now() - Duration::from_hours(48)).into();
    params.not_after = (SystemTime::now() - Duration::from_hours(24)).into();
    let ended = params.self_signed(&rcgen::KeyPair::generate().expect("key")).expect("certificate");
    fs::write(&chain, ended.pem()).expect("write");
    let (other, _) = store.paths("api.example.test");
    let untouched = leaf(&other);
    let names = obtained(settings, Arc::clone(&challenges), 1).await;
    assert_eq!(names, ["www.example.test"]);
    assert_ne!(leaf(&chain), ended.der().to_vec());
    assert_eq!(leaf(&other), untouched);
    drop(authority);
}

#[tokio::test]
async fn tls_alpn_01_issues() {
    let lab = Lab::new("alpn");
    let challenges = Arc::new(Challenges::default());
    tokio::spawn(serve_tls(lab.tls, Arc::clone(&challenges)));
    let authority = lab.authority();
    let settings = lab.settings(Challenge::TlsAlpn01, &[&["shop.example.test"]]);
    assert_eq!(obtained(settings, challenges, 1).await, ["shop.example.test"]);
    drop(authority);
}
