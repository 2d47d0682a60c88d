//! Clients' certificates: by listener and by route, told to upstreams, rules and limits; with rustls and with curl.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::h3::{Identity, ask, connect_as, request, with_client_as};
use super::harness::{Gateway, Options, Origin};
use crate::limits::Holding;
use crate::pipeline::{LimitCheck, LimitGate, LimitOutcome, LimitRequest};

/// An authority with what it signed.
pub(super) struct Lab(PathBuf);

impl Lab {
    pub(super) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-mtls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let lab = Self(folder);
        for (ca, leaves) in [("staff", &["alice", "server"][..]), ("robots", &["robot"])] {
            let mut params = CertificateParams::new(Vec::new()).expect("params");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, ca);
            let key = KeyPair::generate().expect("key");
            lab.write(&format!("{ca}.pem"), &params.self_signed(&key).expect("authority").pem());
            let issuer = Issuer::new(params, key);
            for leaf in leaves {
                let names = vec!["localhost".to_owned(), format!("{leaf}.test")];
                let mut params = CertificateParams::new(names).expect("params");
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
                params.distinguished_name.push(DnType::CommonName, *leaf);
                let key = KeyPair::generate().expect("key");
                lab.write(&format!("{leaf}.pem"), &params.signed_by(&key, &issuer).expect("signed").pem());
                lab.write(&format!("{leaf}.key"), &key.serialize_pem());
            }
        }
        let read = |f: &str| std::fs::read_to_string(lab.path(f)).expect("written");
        lab.write("both.pem", &(read("staff.pem") + &read("robots.pem")));
        lab
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).expect("written");
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// curl with the certificate of `who`: status and body, or its exit code.
    pub(super) fn curl(
        &self,
        port: u16,
        path: &str,
        who: Option<&str>,
        more: &[&str],
    ) -> Result<(u16, String), i32> {
        let mut command = Command::new("curl");
        command
            .args(["-s", "--max-time", "10", "-w", "\n%{http_code}", "--cacert"])
            .arg(self.path("staff.pem"));
        command.args(["-H", "X-SSL-Client-S-DN: CN=root", "-H", "X-SSL-Client-Verify: SUCCESS"]).args(more);
        if let Some(who) = who {
            command.arg("--cert").arg(self.path(&format!("{who}.pem")));
            command.arg("--key").arg(self.path(&format!("{who}.key")));
        }
        let out = command.arg(format!("https://localhost:{port}{path}")).output().expect("curl is installed");
        if !out.status.success() {
            return Err(out.status.code().unwrap_or(-1));
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').expect("a status");
        Ok((status.parse().expect("a number"), body.to_owned()))
    }
}

impl Lab {
    /// The certificate of this file.
    pub(super) fn certificate(&self, who: &str) -> rustls::pki_types::CertificateDer<'static> {
        use rustls::pki_types::pem::PemObject as _;
        let file = self.path(&format!("{who}.pem"));
        rustls::pki_types::CertificateDer::from_pem_file(file).expect("a certificate")
    }
}

/// One request through `openssl s_client`: all that it prints.
pub(super) fn s_client(address: std::net::SocketAddr, more: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-servername", "localhost", "-ign_eof"])
        .args(more)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let _ = std::io::Write::write_all(child.stdin.as_mut().expect("piped"), request);
    let out = child.wait_with_output().expect("ended");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Remembers what limits were asked about.
#[derive(Default)]
struct Asked(Mutex<Vec<Option<String>>>);

struct Gate(Arc<Asked>);

impl LimitGate for Gate {
    fn check<'a>(&'a self, request: LimitRequest<'a>) -> LimitCheck<'a> {
        self.0.0.lock().expect("lock").push(request.certificate.map(str::to_owned));
        LimitCheck::Done(LimitOutcome::default())
    }

    fn settle(&self, _: Holding, _: u16, _: &HeaderMap) -> Option<Holding> {
        None
    }
}

#[test]
fn listeners_and_routes_ask_for_certificates() {
    let lab = Lab::new("routes");
    let origin = Origin::hello();
    let asked = Arc::new(Asked::default());
    let text = format!(
        "[tls]\ncertificates = [{{ certificate = {:?}, key_file = {:?} }}]\nclient_ca = {both:?}\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\nclient_auth = \"optional\"\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\nclient_auth = \"required\"\nclient_ca = {robots:?}\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n\
         [[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"open\"\nupstream = \"u\"\n\
         [[routes]]\nname = \"any\"\nupstream = \"u\"\npath_prefix = \"/any\"\nclient_auth = \"required\"\n\
         [[routes]]\nname = \"staff\"\nupstream = \"u\"\npath_prefix = \"/staff\"\nclient_auth = \"required\"\nclient_ca = {staff:?}\n\
         [[routes]]\nname = \"quiet\"\nupstream = \"u\"\npath_prefix = \"/quiet\"\nclient_auth = \"off\"\n",
        lab.path("server.pem"),
        lab.path("server.key"),
        origin.address,
        both = lab.path("both.pem"),
        robots = lab.path("robots.pem"),
        staff = lab.path("staff.pem"),
    );
    let rules = "SecRuleEngine On\nSecRule TX:ssl_client_s_dn \"@contains CN=robot\" \"id:1,phase:1,deny,status:418,chain\"\n\
                 SecRule REQUEST_URI \"@beginsWith /teapot\" \"\"\n";
    let options = Options { rules, limits: Some(Arc::new(Gate(Arc::clone(&asked)))), ..Options::default() };
    let gateway = Gateway::start(&text, options);
    let port = |i: usize| gateway.addresses[i].port();
    let (optional, required, off) = (port(0), port(1), port(2));
    for (port, path, who, expected, code) in [
        (optional, "/", None, Ok(200), ""),
        (optional, "/", Some("alice"), Ok(200), ""),
        (optional, "/any", None, Ok(403), "client_certificate_required"),
        (optional, "/any", Some("alice"), Ok(200), ""),
        (optional, "/any", Some("robot"), Ok(200), ""),
        (optional, "/staff", Some("alice"), Ok(200), ""),
        (optional, "/staff", Some("robot"), Ok(403), "client_certificate_authority"),
        (optional, "/staff/../staff", None, Ok(403), "client_certificate_required"),
        (optional, "/teapot", Some("robot"), Ok(418), "waf"),
        (optional, "/teapot", Some("alice"), Ok(200), ""),
        (required, "/", Some("robot"), Ok(200), ""),
        (required, "/", Some("alice"), Err(()), ""),
        (required, "/", None, Err(()), ""),
        (off, "/", Some("alice"), Ok(200), ""),
        (off, "/any", Some("alice"), Ok(403), "client_certificate_required"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let what = format!("{port} {path} {who:?} {version}");
            let got = lab.curl(port, path, who, &[version, "--path-as-is"]);
            match (&got, expected) {
                (Ok((status, body)), Ok(expected)) => {
                    assert_eq!(*status, expected, "{what}: {body}");
                    assert!(body.contains(code), "{what}: {body}");
                }
                (Err(_), Err(())) => {}
                _ => panic!("{what}: {got:?} instead of {expected:?}"),
            }
        }
    }
    assert!(asked.0.lock().expect("lock").iter().flatten().all(|s| s.ends_with(",O=Acme\\, Inc.")));
    assert!(asked.0.lock().expect("lock").contains(&Some("CN=alice,O=Acme\\, Inc.".to_owned())));

    let told = |port, path, who| {
        origin.seen.lock().expect("lock").clear();
        lab.curl(port, path, who, &[]).expect("answered");
        let request = origin.requests().pop().expect("seen");
        ["verify", "s-dn", "i-dn", "san", "sha256"]
            .map(|n| request.field(&format!("x-ssl-client-{n}")).unwrap_or("-").to_owned())
    };
    let shown = told(optional, "/", Some("alice"));
    assert_eq!(shown[..2], ["SUCCESS", "CN=alice,O=Acme\\, Inc."]);
    assert!(shown[2].starts_with("CN=staff"), "{shown:?}");
    assert_eq!(shown[3], "DNS:localhost,DNS:alice.test");
    assert_eq!(shown[4].len(), 64);
    assert_eq!(told(optional, "/", None), ["NONE", "-", "-", "-", "-"]);
    assert_eq!(told(optional, "/quiet", Some("alice")), ["-"; 5]);
    assert_eq!(told(off, "/", Some("alice")), ["-"; 5]);
    let metrics = gateway.metrics();
    assert!(
        metrics.contains("gateway_tls_handshakes_failed_total{reason=\"no_client_certificate\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("gateway_tls_handshakes_failed_total{reason=\"bad_client_certificate\"} 2"),
        "{metrics}"
    );
}

#[test]
fn the_fields_have_the_names_that_are_given_to_them() {
    let lab = Lab::new("fields");
    let origin = Origin::hello();
    let text = format!(
        "[tls]\ncertificates = [{{ certificate = {:?}, key_file = {:?} }}]\nclient_auth = \"optional\"\nclient_ca = {:?}\n\
         [tls.client_headers]\nverify = \"Client-Verify\"\nsubject = \"Ssl-DN\"\nissuer = \"X-Issuer\"\nnames = \"X-Names\"\nsha256 = \"\"\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
        lab.path("server.pem"),
        lab.path("server.key"),
        lab.path("staff.pem"),
        origin.address,
    );
    let gateway = Gateway::start(&text, Options::default());
    let port = gateway.addresses[0].port();
    for (who, expected) in [
        (
            Some("alice"),
            [Some("SUCCESS"), Some("CN=alice,O=Acme\\, Inc."), Some("DNS:localhost,DNS:alice.test"), None],
        ),
        (None, [Some("NONE"), None, None, None]),
    ] {
        origin.seen.lock().expect("lock").clear();
        // What a client says of itself under these names is removed.
        lab.curl(port, "/", who, &["-H", "Ssl-DN: CN=root", "-H", "X-Names: DNS:root"]).expect("answered");
        let seen = &origin.requests()[0];
        let names = ["client-verify", "ssl-dn", "x-names", "x-ssl-client-sha256"];
        assert_eq!(names.map(|name| seen.field(name)), expected, "{}", seen.head);
        assert_eq!(
            seen.field("x-issuer").is_some_and(|issuer| issuer.starts_with("CN=staff")),
            who.is_some()
        );
    }
}

/// A session begun where no certificate is asked for must not resume where one is required.
#[test]
fn sessions_stay_where_they_began() {
    let lab = Lab::new("tickets");
    let origin = Origin::hello();
    lab.write("tickets", &"ab".repeat(32));
    let text = format!(
        "[tls]\ncertificates = [{{ certificate = {:?}, key_file = {:?} }}]\nticket_keys_file = {:?}\nclient_ca = {:?}\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\nclient_auth = \"required\"\n\
         [[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
        lab.path("server.pem"),
        lab.path("server.key"),
        lab.path("tickets"),
        lab.path("staff.pem"),
        origin.address,
    );
    let gateway = Gateway::start(&text, Options::default());
    let session = lab.path("session");
    let ask = |listener: usize, how: &str| {
        s_client(gateway.addresses[listener], &["-tls1_2", how, &session.display().to_string()])
    };
    let first = ask(0, "-sess_out");
    assert!(first.contains("New, TLSv1.2") && first.contains("hello"), "{first}");
    let again = ask(0, "-sess_in");
    assert!(again.contains("Reused, TLSv1.2") && again.contains("hello"), "{again}");
    let elsewhere = ask(1, "-sess_in");
    assert!(!elsewhere.contains("Reused") && !elsewhere.contains("hello"), "{elsewhere}");
    let metrics = gateway.metrics();
    assert!(metrics.contains("resumed=\"true\"} 1"), "{metrics}");
}

impl Lab {
    fn identity(&self, who: &str) -> Identity {
        use rustls::pki_types::pem::PemObject as _;
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(self.path(&format!("{who}.key")));
        (vec![self.certificate(who)], key.expect("a key"))
    }
}

/// What the TLS of a QUIC connection shows: certificate, fingerprint, suite.
#[test]
fn over_http3_handshakes_show_the_same() {
    let lab = Lab::new("h3");
    let origin = Origin::hello();
    let text = format!(
        "[tls]\ncertificates = [{{ certificate = {:?}, key_file = {:?} }}]\nclient_ca = {:?}\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\nhttp3 = true\nclient_auth = \"optional\"\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\nhttp3 = true\nclient_auth = \"required\"\n\
         [[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n\
         [[routes]]\nupstream = \"u\"\n[[routes]]\nupstream = \"u\"\npath = \"/any\"\nclient_auth = \"required\"\n",
        lab.path("server.pem"),
        lab.path("server.key"),
        lab.path("staff.pem"),
        origin.address,
    );
    // The rules see the fingerprint, and that it was QUIC.
    let rules = "SecRuleEngine On\nSecRule TX:ja4 \"!@rx ^q13d[0-9]{4}h3_[0-9a-f]{12}_[0-9a-f]{12}$\" \
                 \"id:1,phase:1,deny,status:418\"\n";
    let gateway = Gateway::start(&text, Options { rules, ..Options::default() });
    for (who, path, expected, told) in [
        (None, "/", 200, ["NONE", "-"]),
        (None, "/any", 403, ["-", "-"]),
        (Some("alice"), "/any", 200, ["SUCCESS", "CN=alice,O=Acme\\, Inc."]),
    ] {
        origin.seen.lock().expect("lock").clear();
        let identity = who.map(|who| lab.identity(who));
        with_client_as(gateway.addresses[0], identity, async |mut sender, _| {
            let answer = ask(&mut sender, request(http::Method::GET, path, &[]), b"").await;
            let (status, _, body) = answer.expect("an answer");
            assert_eq!(status.as_u16(), expected, "{who:?} {path}: {}", String::from_utf8_lossy(&body));
        });
        let seen = origin.requests().pop().unwrap_or_default();
        let got =
            ["verify", "s-dn"].map(|n| seen.field(&format!("x-ssl-client-{n}")).unwrap_or("-").to_owned());
        assert_eq!(got, told, "{who:?} {path}");
    }
    // A client whose certificate is missing or not good takes the handshake for done before the server has judged it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for who in [None, Some("robot")] {
        let identity = who.map(|who| lab.identity(who));
        let refused = async {
            match connect_as(gateway.addresses[1], identity).await {
                Ok((_endpoint, connection)) => connection.closed().await,
                Err(error) => error,
            }
        };
        let within = std::time::Duration::from_secs(20);
        let error = runtime.block_on(async { tokio::time::timeout(within, refused).await });
        assert!(error.is_ok(), "{who:?} was let in");
    }
    for line in gateway.log_lines(3) {
        assert!(line["ja4"].as_str().is_some_and(|ja4| ja4.starts_with("q13d")), "{line}");
    }
    let metrics = gateway.metrics();
    let done = metrics.lines().find_map(|l| {
        l.starts_with("gateway_tls_handshakes_total{cipher=\"TLS_").then(|| l.rsplit(' ').next())?
    });
    assert_eq!(done, Some("3"), "{metrics}");
    for line in [
        "gateway_tls_versions_total{version=\"TLSv1.3\"} 3",
        "gateway_tls_client_certificates_total 1",
        "gateway_tls_handshakes_failed_total{reason=\"no_client_certificate\"} 1",
        "gateway_tls_handshakes_failed_total{reason=\"bad_client_certificate\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}
