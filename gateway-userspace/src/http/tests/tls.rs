//! What TLS listeners ask for and refuse: time, versions, groups, names; sessions that outlive a restart.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::NamedGroup;
use rustls::pki_types::ServerName;

use super::harness::{Client, Gateway, Options, Origin};
use super::mtls::{Lab, s_client};
use crate::bans::OffenceKind;

fn gateway(lab: &Lab, origin: &Origin, tls: &str, more: &str) -> Gateway {
    let text = format!(
        "[tls]\ncertificates = [{{ certificate = {:?}, key_file = {:?} }}]\n{tls}\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n\
         [[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n{more}",
        lab.path("server.pem"),
        lab.path("server.key"),
        origin.address
    );
    Gateway::start(&text, Options::default())
}

#[test]
fn a_handshake_has_its_time() {
    let lab = Lab::new("handshake");
    let origin = Origin::hello();
    let more = "[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n\
                [client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let mut gateway = gateway(&lab, &origin, "handshake_timeout = \"300ms\"\n", more);
    for (what, listener, bytes) in [
        ("nothing", 0, &b""[..]),
        ("the head of a record", 0, &[22, 3, 1, 2, 0]),
        ("half a hello", 0, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
        ("no PROXY header", 1, b""),
        ("half a PROXY header", 1, b"PROXY TCP4 203.0."),
    ] {
        let mut client = Client::connect(gateway.addresses[listener]);
        client.send(bytes);
        assert!(client.is_closed(), "{what}");
        let offence = gateway.offences.blocking_recv().expect("told");
        assert_eq!(offence.kind, OffenceKind::Handshake, "{what}");
    }
    let counted = "gateway_tls_handshakes_failed_total{reason=\"timeout\"} 5";
    assert!(gateway.metrics().contains(counted), "{}", gateway.metrics());
    assert!(origin.requests().is_empty());
}

#[test]
fn the_host_may_have_to_be_the_name_of_the_handshake() {
    let lab = Lab::new("names");
    let origin = Origin::hello();
    for must in [true, false] {
        let gateway = gateway(&lab, &origin, "", &format!("[http]\nsni_must_match_host = {must}\n"));
        let port = gateway.addresses[0].port();
        for version in ["--http1.1", "--http2"] {
            for (host, is_same) in [("localhost", true), ("LOCALHOST", true), ("other.test", false)] {
                let field = format!("Host: {host}:{port}");
                let (status, body) = lab.curl(port, "/", None, &[version, "-H", &field]).expect("answered");
                let is_refused = must && !is_same;
                assert_eq!(status, if is_refused { 421 } else { 200 }, "{must} {version} {host}: {body}");
                assert_eq!(body.contains("\"misdirected\""), is_refused, "{must} {version} {host}: {body}");
            }
        }
    }
}

#[test]
fn versions_below_the_least_one_are_refused() {
    let lab = Lab::new("versions");
    let origin = Origin::hello();
    for (least, expected) in [("1.2", [Ok(200), Ok(200)]), ("1.3", [Err(()), Ok(200)])] {
        let gateway = gateway(&lab, &origin, &format!("min_version = \"{least}\"\n"), "");
        let port = gateway.addresses[0].port();
        let got = ["1.2", "1.3"].map(|most| {
            let answer = lab.curl(port, "/", None, &["--tlsv1.2", "--tls-max", most]);
            answer.map(|(status, _)| status).map_err(|_| ())
        });
        assert_eq!(got, expected, "{least}");
        let refused = format!(
            "gateway_tls_handshakes_failed_total{{reason=\"incompatible\"}} {}",
            u8::from(least == "1.3")
        );
        assert!(gateway.metrics().contains(&refused), "{least}: {}", gateway.metrics());
    }
}

#[test]
fn the_group_that_outlasts_quantum_computers_is_preferred() {
    let lab = Lab::new("groups");
    let origin = Origin::hello();
    let gateway = gateway(&lab, &origin, "", "");
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let all = provider.kx_groups.clone();
    // Browsers offer shares of both; what a client doesn't have is not asked for.
    let hybrid = NamedGroup::X25519MLKEM768;
    for (has_hybrid, expected) in [(true, hybrid), (false, NamedGroup::X25519)] {
        let mut groups: Vec<_> = all.iter().copied().filter(|g| has_hybrid || g.name() != hybrid).collect();
        groups.sort_by_key(|group| group.name() != hybrid);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(lab.certificate("staff")).expect("an authority");
        let provider = rustls::crypto::CryptoProvider { kx_groups: groups, ..provider.clone() };
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
        let socket = Client::connect(gateway.addresses[0]).stream;
        let mut stream = rustls::StreamOwned::new(session, socket);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        assert!(text.ends_with("hello"), "{text}");
        let group = stream.conn.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name);
        assert_eq!(group, Some(expected));
    }
}

/// Sessions resume at another node, or after a restart, as long as it has the key that they were sealed with.
#[test]
fn tickets_are_shared_and_keys_rotated() {
    let lab = Lab::new("shared");
    let origin = Origin::hello();
    let (old, new) = ("ab".repeat(32), "cd".repeat(32));
    let node = |keys: &[&str]| {
        lab.write("keys", &keys.join("\n"));
        gateway(&lab, &origin, &format!("ticket_keys_file = {:?}\n", lab.path("keys")), "")
    };
    let nodes = [node(&[&old]), node(&[&old]), node(&[&new, &old]), node(&[&new])];
    for version in ["-tls1_2", "-tls1_3"] {
        let session = lab.path("session");
        let ask = |node: &Gateway, how: &str| {
            s_client(node.addresses[0], &[version, how, &session.display().to_string()])
        };
        let first = ask(&nodes[0], "-sess_out");
        assert!(first.contains("New, TLSv1.") && first.contains("hello"), "{version}: {first}");
        for (node, is_resumed) in nodes.iter().zip([true, true, true, false]) {
            let again = ask(node, "-sess_in");
            assert!(again.contains("hello"), "{version}: {again}");
            assert_eq!(again.contains("Reused, TLSv1."), is_resumed, "{version}: {again}");
        }
    }
}
