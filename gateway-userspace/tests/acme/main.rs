//! ACME against pebble, the test authority: both challenges, renewal, rejected nonces, outages; the task alone, and the
//! daemon itself.

mod authority;
mod served;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::acme::{self, Challenge, Challenges, Settings, Store, TLS_ALPN_PROTOCOL};
use instant_acme::CertificateIdentifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use authority::{Lab, Running, free_port, listens};

/// What certificates live where their end is not the matter, in seconds.
const LONG: u32 = 90 * 86_400;

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
    obtained_within(Duration::from_secs(60), settings, challenges, count).await
}

/// As [`obtained`], with another wait for each.
async fn obtained_within(
    wait: Duration,
    settings: Settings,
    challenges: Arc<Challenges>,
    count: usize,
) -> Vec<String> {
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
        match tokio::time::timeout(wait, receiver.recv()).await {
            Ok(Some(name)) => names.push(name),
            _ => break,
        }
    }
    task.abort();
    names
}

/// A certificate of an authority that ended yesterday.
fn ended(name: &str) -> rcgen::Certificate {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::generate().expect("key"));
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("params");
    params.not_before = (SystemTime::now() - Duration::from_hours(48)).into();
    params.not_after = (SystemTime::now() - Duration::from_hours(24)).into();
    params.use_authority_key_identifier_extension = true;
    let ended = params.signed_by(&rcgen::KeyPair::generate().expect("key"), &issuer).expect("certificate");
    assert!(CertificateIdentifier::try_from(ended.der()).is_ok(), "it names its authority");
    ended
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
    let lab = Lab::new("http", LONG);
    let challenges = Arc::new(Challenges::default());
    tokio::spawn(serve_http(lab.http, Arc::clone(&challenges)));
    let settings =
        lab.settings(Challenge::Http01, &[&["www.example.test", "example.test"], &["api.example.test"]]);
    let store = Store::open(&settings.folder).expect("store");

    // The authority is away at first: the task keeps trying.
    let waiting = tokio::spawn(obtained(settings.clone(), Arc::clone(&challenges), 2));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let authority = lab.authority(33);
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

    // A certificate that has ended is ordered again; the fresh one is left alone. It names its authority, as those of
    // authorities do; this one knows nothing of ARI.
    let ended = ended("www.example.test");
    fs::write(&chain, ended.pem()).expect("write");
    let (other, _) = store.paths("api.example.test");
    let untouched = leaf(&other);
    let names = obtained(settings.clone(), Arc::clone(&challenges), 1).await;
    assert_eq!(names, ["www.example.test"]);
    assert_ne!(leaf(&chain), ended.der().to_vec());
    assert_eq!(leaf(&other), untouched);

    // The authority comes back without its memory: a new account is made.
    drop(authority);
    let authority = lab.authority(33);
    fs::write(&chain, ended.pem()).expect("write");
    assert_eq!(obtained(settings.clone(), Arc::clone(&challenges), 1).await, ["www.example.test"]);
    // Another one, which knows nothing of the account either, and isn't asked for it.
    let account = || fs::read(settings.folder.join("account.json")).expect("an account");
    let before = account();
    fs::write(&chain, ended.pem()).expect("write");
    let elsewhere =
        Settings { directory: settings.directory.replace("localhost", "LOCALHOST"), ..settings.clone() };
    assert_eq!(obtained(elsewhere, Arc::clone(&challenges), 1).await, ["www.example.test"]);
    assert_ne!(account(), before);
    drop(authority);
}

#[tokio::test]
async fn tls_alpn_01_issues() {
    let lab = Lab::new("alpn", LONG);
    let challenges = Arc::new(Challenges::default());
    tokio::spawn(serve_tls(lab.tls, Arc::clone(&challenges)));
    let authority = lab.authority(33);
    let settings = lab.settings(Challenge::TlsAlpn01, &[&["shop.example.test"]]);
    assert_eq!(obtained(settings, challenges, 1).await, ["shop.example.test"]);
    drop(authority);
}

/// ARI (RFC 9773): before the authority stands one that suggests when to renew.
#[tokio::test]
async fn renewal_follows_what_the_authority_suggests() {
    let lab = Lab::new("ari", LONG);
    let challenges = Arc::new(Challenges::default());
    tokio::spawn(serve_http(lab.http, Arc::clone(&challenges)));
    let authority = lab.authority(33);
    let (port, window, replaced) = (free_port(), lab.folder.join("window"), lab.folder.join("replaced"));
    let suggest = |start: &str, end: &str| fs::write(&window, format!("{start} {end}")).expect("written");
    suggest("2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z");
    let front = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/acme/ari.py"))
        .args([port.to_string(), lab.directory.to_string()])
        .args([lab.folder.join("authority.crt"), lab.folder.join("authority.key")])
        .args([&window, &replaced])
        .stdin(Stdio::null())
        .spawn()
        .expect("python3 is installed");
    let front = Running(front);
    listens(port);
    let settings = Settings {
        directory: format!("https://localhost:{port}/dir"),
        ..lab.settings(Challenge::Http01, &[&["www.example.test"]])
    };
    let (chain, _) = Store::open(&settings.folder).expect("store").paths("www.example.test");
    assert_eq!(obtained(settings.clone(), Arc::clone(&challenges), 1).await, ["www.example.test"]);
    let first = leaf(&chain);

    // A time far off: the certificate stays. Then one that is past: it is renewed although most of its life is left.
    let soon = Duration::from_secs(2);
    let none = obtained_within(soon, settings.clone(), Arc::clone(&challenges), 1).await;
    assert!(none.is_empty() && leaf(&chain) == first, "{none:?}");
    suggest("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
    assert_eq!(obtained(settings, challenges, 1).await, ["www.example.test"]);
    assert_ne!(leaf(&chain), first);
    let first = rustls::pki_types::CertificateDer::from(first);
    let id = CertificateIdentifier::try_from(&first).expect("it names its authority").to_string();
    let told = fs::read_to_string(&replaced).expect("an order said what it replaces");
    assert!(told.lines().all(|line| line == id) && !told.is_empty(), "{told} is not {id}");
    drop((front, authority));
}
