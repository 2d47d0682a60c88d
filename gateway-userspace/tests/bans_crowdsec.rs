//! The real crowdsec of Debian: what `cscli` decides is banned within the poll interval, and released
//! when it is deleted there; with the API gone, what it decided holds.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway::bans::{
    AddBan, BanChange, BanReason, KernelBan, KernelError, KernelWriter, ListBans, Offence, OffenceKind,
    Origin, Parts, RemoveBan, Spared, crowdsec as neighbours, start,
};
use gateway::client::{ClientId, IpNetwork};
use gateway::config::Config;
use gateway::config::bans::CrowdSec as CrowdSecConfig;

#[path = "../../tests/src/crowdsec.rs"]
mod process;

use process::CrowdSec;

#[derive(Clone, Default)]
struct FakeKernel(Arc<Mutex<BTreeSet<IpNetwork>>>);

impl KernelWriter for FakeKernel {
    fn apply(&mut self, batch: &[BanChange]) -> Result<(), KernelError> {
        let mut bans = self.0.lock().expect("lock");
        for change in batch {
            match change {
                BanChange::Add { network, .. } => bans.insert(*network),
                BanChange::Remove { network } => bans.remove(network),
            };
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<KernelBan>, KernelError> {
        let bans = self.0.lock().expect("lock");
        Ok(bans
            .iter()
            .map(|n| KernelBan { network: *n, until_unix_ms: u64::MAX, reason: BanReason::CrowdSec })
            .collect())
    }
}

fn crowdsec(name: &str, tls: bool) -> CrowdSec {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port();
    let folder = std::env::temp_dir().join(format!("gateway-crowdsec-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let at = folder.display().to_string();
    let listener = tls.then(|| {
        certificates(&folder);
        format!(
            "cert_file: {at}/server.pem, key_file: {at}/server.key, ca_cert_path: {at}/ca.pem, \
             client_verification: VerifyClientCertIfGiven, bouncers_allowed_ou: [bouncer-ou], agents_allowed_ou: [agent-ou]"
        )
    });
    CrowdSec::here(folder, port, listener.as_deref()).expect("crowdsec")
}

/// Value, scenario and origin of every decision that a bouncer is told, in order.
fn decisions(neighbour: &CrowdSec) -> Vec<(String, String, String)> {
    let answer = neighbour.ask("/v1/decisions").expect("curl");
    let listed: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let field = |d: &serde_json::Value, name: &str| d[name].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| (field(d, "value"), field(d, "scenario"), field(d, "origin")))
        .collect();
    all.sort();
    all
}

/// An authority, a server's certificate and a bouncer's, in a folder.
fn certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("file");
    let authority_key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority of the test");
    write("ca.pem", &params.self_signed(&authority_key).expect("certificate").pem());
    let authority = Issuer::new(params, authority_key);
    for (name, unit) in [("server", "server-ou"), ("bouncer", "bouncer-ou")] {
        let key = KeyPair::generate().expect("key");
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, format!("{name}.test"));
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.use_authority_key_identifier_extension = true;
        write(&format!("{name}.pem"), &params.signed_by(&key, &authority).expect("certificate").pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
}

async fn until_kernel_holds(kernel: &FakeKernel, expected: &[&str], within: Duration) -> Duration {
    let expected: BTreeSet<IpNetwork> = expected.iter().map(|n| n.parse().expect("network")).collect();
    let start = Instant::now();
    loop {
        let held = kernel.0.lock().expect("lock").clone();
        if held == expected {
            return start.elapsed();
        }
        assert!(start.elapsed() < within, "after {within:?} the kernel holds {held:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn configuration(folder: &Path, port: u16) -> gateway::config::bans::Bans {
    let text =
        format!("[bans.crowdsec]\nurl = \"http://127.0.0.1:{port}/\"\nkey_file = \"key\"\ninterval = \"1s\"");
    Config::parse(&folder.join("gateway.toml"), &text).expect("configuration").bans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cscli_decides_is_banned_and_released() {
    let mut neighbour = crowdsec("poll", false);
    let config = configuration(&neighbour.folder, neighbour.port);
    let kernel = FakeKernel::default();
    let parts = Parts {
        spared: Spared { trusted_proxies: vec!["10.0.0.0/8".parse().expect("network")], ..Spared::default() },
        kernel: Some(Box::new(kernel.clone())),
        ..Parts::default()
    };
    let handle = start(&config, parts).expect("start");
    neighbour.cscli(&["decisions", "add", "-i", "192.0.2.1", "-d", "1h"]).expect("cscli");
    let (state, _task) =
        neighbours::follow(config.crowdsec.as_ref().expect("crowdsec"), None, handle.clone())
            .expect("follow");
    // What was there at the start.
    until_kernel_holds(&kernel, &["192.0.2.1"], Duration::from_secs(5)).await;
    let interval = Duration::from_secs(3);
    // A range stays a range; a trusted proxy is not banned, whoever says so.
    neighbour.cscli(&["decisions", "add", "-r", "198.51.100.0/24", "-d", "1h"]).expect("cscli");
    neighbour.cscli(&["decisions", "add", "-i", "10.1.2.3", "-d", "1h"]).expect("cscli");
    let took = until_kernel_holds(&kernel, &["192.0.2.1", "198.51.100.0/24"], interval).await;
    println!("a range is banned {took:?} after cscli returned (interval 1 s)");
    let why = handle.why("198.51.100.9".parse().expect("address")).await.expect("why");
    assert!(why.summary.contains("by crowdsec: manual 'ban'"), "{}", why.summary);
    // Two decisions on one address: one deleted, the other holds.
    neighbour.cscli(&["decisions", "add", "-i", "192.0.2.1", "-d", "2h"]).expect("cscli");
    neighbour.cscli(&["decisions", "delete", "-r", "198.51.100.0/24"]).expect("cscli");
    until_kernel_holds(&kernel, &["192.0.2.1"], interval).await;
    // The API is gone: what it decided holds, and it is said.
    neighbour.stop();
    let start = Instant::now();
    while state.last_error().is_none() {
        assert!(start.elapsed() < Duration::from_secs(10), "the outage is not seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_kernel_holds(&kernel, &["192.0.2.1"], interval).await;
    neighbour.run().expect("crowdsec");
    neighbour.cscli(&["decisions", "delete", "--all"]).expect("cscli");
    until_kernel_holds(&kernel, &[], Duration::from_secs(15)).await;
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn ban(scope: &str) -> AddBan {
    AddBan {
        scope: scope.parse().expect("scope"),
        action: None,
        for_ms: Some(3_600_000),
        until_ms: None,
        reason: "by the test".into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_decisions_are_told_there_and_taken_back() {
    let neighbour = crowdsec("report", false);
    let text = format!(
        "[bans.crowdsec]\nurl = \"http://127.0.0.1:{}/\"\nkey_file = \"key\"\ninterval = \"1s\"\nmetrics_interval = \"1s\"\n\
         [bans.crowdsec.report]\nmachine = \"gateway\"\npassword_file = \"password\"",
        neighbour.port
    );
    let config = Config::parse(&neighbour.folder.join("gateway.toml"), &text).expect("configuration").bans;
    let kernel = FakeKernel::default();
    let parts = Parts { kernel: Some(Box::new(kernel.clone())), ..Parts::default() };
    let handle = start(&config, parts).expect("start");
    let crowdsec = config.crowdsec.as_ref().expect("crowdsec");
    let (state, _task) = neighbours::follow(crowdsec, None, handle.clone()).expect("follow");
    for _ in 0..5 {
        handle.offend(Offence {
            at_ms: u64::MAX,
            client: ClientId::direct("192.0.2.66".parse().expect("address")),
            kind: OffenceKind::Waf,
            weight: 5,
            rules: vec![942100],
            subject: None,
            request_id: Some("r".into()),
            ja4: None,
        });
    }
    for scope in ["198.51.100.0/24", "2001:db8:1::/64"] {
        handle.add(ban(scope)).await.expect("ban");
    }
    let row =
        |value: &str, scenario: &str| (value.to_owned(), scenario.to_owned(), "gateway:gateway".to_owned());
    let all = [
        row("192.0.2.66", "gateway/waf"),
        row("198.51.100.0/24", "gateway/operator"),
        row("2001:db8:1::/64", "gateway/operator"),
    ];
    let start = Instant::now();
    loop {
        let known = decisions(&neighbour);
        if known == all {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "CrowdSec knows {known:?}\n{state:?}\n{}",
            neighbour.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // They come back in the stream, and are known for our own.
    neighbour.cscli(&["decisions", "add", "-i", "192.0.2.1", "-d", "1h"]).expect("cscli");
    until("the stream is read", || state.followed.load(Ordering::Relaxed) == 1).await;
    let listing =
        handle.list(ListBans { origin: Some(Origin::CrowdSec), ..ListBans::default() }).await.expect("list");
    assert_eq!(listing.decisions.len(), 1, "{listing:?}");
    for scope in ["192.0.2.66", "2001:db8:1::/64"] {
        handle.remove(RemoveBan::Scope(scope.parse().expect("scope"))).await.expect("removed");
    }
    let start = Instant::now();
    loop {
        let known = decisions(&neighbour);
        if known.iter().filter(|(_, _, origin)| origin == "gateway:gateway").count() == 1 {
            break;
        }
        let log = neighbour.log();
        let deletes: Vec<&str> =
            log.lines().filter(|l| l.contains("DELETE") || l.contains("error")).collect();
        assert!(start.elapsed() < Duration::from_secs(10), "CrowdSec keeps {known:?}\n{deletes:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Debian's crowdsec is older than usage metrics: that is seen, and nothing breaks.
    until("the answer to metrics", || state.metrics_unknown.load(Ordering::Relaxed)).await;
    assert_eq!(state.last_error(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_enough_to_be_a_bouncer() {
    let neighbour = crowdsec("mtls", true);
    let text = format!(
        "[bans.crowdsec]\nurl = \"https://127.0.0.1:{}/\"\nca_file = \"ca.pem\"\ncertificate_file = \"bouncer.pem\"\n\
         private_key_file = \"bouncer.key\"\ninterval = \"1s\"",
        neighbour.port
    );
    let config = Config::parse(&neighbour.folder.join("gateway.toml"), &text).expect("configuration").bans;
    let kernel = FakeKernel::default();
    let parts = Parts { kernel: Some(Box::new(kernel.clone())), ..Parts::default() };
    let handle = start(&config, parts).expect("start");
    neighbour.cscli(&["decisions", "add", "-i", "192.0.2.1", "-d", "1h"]).expect("cscli");
    let follow = |config: &CrowdSecConfig| neighbours::follow(config, None, handle.clone()).expect("follow");
    let crowdsec = config.crowdsec.expect("crowdsec");
    let (_state, task) = follow(&crowdsec);
    until_kernel_holds(&kernel, &["192.0.2.1"], Duration::from_secs(20)).await;
    task.abort();
    // Without the certificate nobody is let in.
    let (state, _task) = follow(&CrowdSecConfig { identity: None, ..crowdsec });
    until("the refusal", || state.last_error().is_some_and(|e| e.contains("refuses the key"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_a_sentence() {
    let folder = std::env::temp_dir().join(format!("gateway-crowdsec-key-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let config = configuration(&folder, 1);
    let handle = start(&config, Parts::default()).expect("start");
    let follow =
        || neighbours::follow(config.crowdsec.as_ref().expect("crowdsec"), None, handle.clone()).map(drop);
    let missing = follow().expect_err("no file").to_string();
    assert!(missing.contains("key_file"), "{missing}");
    std::fs::write(folder.join("key"), " \n").expect("key");
    let empty = follow().expect_err("no key").to_string();
    assert!(empty.contains("cscli bouncers add gateway"), "{empty}");
    std::fs::remove_dir_all(&folder).expect("removed");
}
