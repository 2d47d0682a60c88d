//! Three nodes and a real redis-server: decisions spread, forged ones don't, caps hold, and after
//! Redis was gone all nodes agree again.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway::bans::cluster::{ClusterState, Key, Message, Word, join};
use gateway::bans::{
    AddBan, DecisionId, Handle, ListBans, Offence, OffenceKind, Origin, Parts, RemoveBan, Spared, Traits,
    start,
};
use gateway::client::ClientId;
use gateway::config::Config;

const KEY: &str = "a key of the test, longer than 32 bytes\n";

struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    fn start(port: u16) -> Self {
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server (Debian's package redis-server) is needed");
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str, port: u16) -> Folder {
    let path = std::env::temp_dir().join(format!("gateway-bans-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("folder");
    std::fs::write(path.join("url"), format!("redis://127.0.0.1:{port}/\n")).expect("url");
    std::fs::write(path.join("key"), KEY).expect("key");
    Folder(path)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port()
}

fn node(folder: &Path, name: &str, cap: usize) -> (Handle, Arc<ClusterState>) {
    let text = format!(
        "[bans.neighbours]\nenabled = false\n[bans.cluster]\nnode = \"{name}\"\nredis_file = \"url\"\nkey_file = \"key\"\ncap = {cap}"
    );
    let config = Config::parse(&folder.join("gateway.toml"), &text).expect("configuration").bans;
    let parts = Parts {
        node: name.into(),
        spared: Spared { trusted_proxies: vec!["10.0.0.0/8".parse().expect("network")], ..Spared::default() },
        ..Parts::default()
    };
    let handle = start(&config, parts).expect("start");
    let cluster = config.cluster.expect("cluster");
    let (state, _task) = join(&cluster, config.escalation.maximum, handle.clone()).expect("join");
    (handle, state)
}

fn ban(scope: &str) -> AddBan {
    AddBan {
        scope: scope.parse().expect("scope"),
        action: None,
        for_ms: Some(3_600_000),
        until_ms: None,
        reason: "test".into(),
    }
}

async fn ids(handle: &Handle) -> BTreeSet<DecisionId> {
    let listing = handle.list(ListBans::default()).await.expect("list");
    listing.decisions.iter().map(|d| d.id).collect()
}

/// Waits until `done`; how long that took.
async fn until(what: &str, within: Duration, mut done: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

async fn agree(nodes: &[(Handle, Arc<ClusterState>)], count: usize, within: Duration) -> Duration {
    until("all nodes hold the same decisions", within, async || {
        let first = ids(&nodes[0].0).await;
        let mut same = first.len() == count;
        for (handle, _) in &nodes[1..] {
            same &= ids(handle).await == first;
        }
        same
    })
    .await
}

const LONG: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_spread_are_taken_back_and_survive_an_outage() {
    let redis = Redis::start(free_port());
    let port = redis.port;
    let folder = folder("cluster", port);
    let mut nodes: Vec<_> = ["n1", "n2"].map(|name| node(&folder.0, name, 1000)).into();
    until("connected", LONG, async || nodes.iter().all(|(_, s)| s.connected.load(Ordering::Relaxed))).await;
    for host in 0..50 {
        nodes[0].0.add(ban(&format!("192.0.2.{host}"))).await.expect("ban");
    }
    agree(&nodes, 50, LONG).await;
    // A newcomer gets what was decided before it came.
    nodes.push(node(&folder.0, "n3", 1000));
    agree(&nodes, 50, LONG).await;
    let spread = nodes[2].0.list(ListBans::default()).await.expect("list").decisions;
    assert!(spread.iter().all(|d| d.origin == Origin::Peer("n1".into()) && &*d.reason == "test"));

    let mut micros = Vec::new();
    for host in 0..100 {
        let scope = format!("198.51.100.{host}");
        let client = ClientId::direct(scope.parse().expect("address"));
        let start = Instant::now();
        nodes[1].0.add(ban(&scope)).await.expect("ban");
        while nodes[0].0.denied(&client, Traits::default()).is_none()
            || nodes[2].0.denied(&client, Traits::default()).is_none()
        {
            assert!(start.elapsed() < LONG, "a ban does not spread");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        micros.push(start.elapsed().as_micros());
    }
    micros.sort_unstable();
    println!("decision on one node to the two others: p50 {} us, p99 {} us", micros[50], micros[98]);

    // An operator takes a ban back on another node than the one that decided: it ends everywhere.
    let scope = "192.0.2.7".parse().expect("scope");
    nodes[2].0.remove(RemoveBan::Scope(scope)).await.expect("removed");
    agree(&nodes, 149, LONG).await;

    drop(redis);
    until("the outage is seen", LONG, async || {
        !nodes.iter().any(|(_, s)| s.connected.load(Ordering::Relaxed))
    })
    .await;
    let local = "203.0.113.66";
    for _ in 0..5 {
        nodes[0].0.offend(Offence {
            at_ms: u64::MAX,
            client: ClientId::direct(local.parse().expect("address")),
            kind: OffenceKind::Waf,
            weight: 5,
            rules: vec![942100],
            subject: None,
            request_id: Some("r".into()),
            ja4: None,
        });
    }
    nodes[1].0.add(ban("203.0.113.1")).await.expect("ban");
    nodes[1].0.remove(RemoveBan::Scope("198.51.100.5".parse().expect("scope"))).await.expect("removed");
    let client = ClientId::direct(local.parse().expect("address"));
    until("local bans go on", LONG, async || nodes[0].0.denied(&client, Traits::default()).is_some()).await;
    // Redis comes back empty.
    let _redis = Redis::start(port);
    let took = agree(&nodes, 150, LONG).await;
    println!("all nodes agree {took:?} after Redis came back, empty");
    let decision = nodes[2].0.denied(&client, Traits::default()).expect("spread");
    assert_eq!((decision.origin.to_string().as_str(), &decision.cause.rules[..]), ("peer:n1", &[942100][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_write_to_redis_can_ban_nobody_and_peers_are_bounded() {
    let redis = Redis::start(free_port());
    let folder = folder("forged", redis.port);
    let (victim, state) = node(&folder.0, "n1", 5);
    until("connected", LONG, async || state.connected.load(Ordering::Relaxed)).await;
    let url = format!("redis://127.0.0.1:{}/", redis.port);
    let client = redis::Client::open(url).expect("url");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connection");
    let source = start(&Config::parse(Path::new("t"), "").expect("configuration").bans, Parts::default());
    let source = source.expect("start");
    let mut send = async |key: &str, stream: &str, word: Word| {
        let key = Key::new(key.trim().as_bytes(), stream.into()).expect("key");
        let sealed = key.seal(&Message { node: "n2".into(), word }).expect("sealed");
        let mut add = redis::cmd("XADD");
        add.arg("gateway:decisions").arg("*").arg("m").arg(sealed);
        let _id: String = add.query_async(&mut connection).await.expect("XADD");
    };
    let decision = source.add(ban("192.0.2.66")).await.expect("ban");
    send("another key, also longer than 32 bytes", "gateway:decisions", Word::Began(decision.clone())).await;
    send(KEY, "another:stream", Word::Began(decision.clone())).await;
    until("forgeries are counted", LONG, async || state.forged.load(Ordering::Relaxed) == 2).await;
    assert!(ids(&victim).await.is_empty());
    // Signed, but not to be obeyed: everything, a trusted proxy, and more than the cap.
    for scope in ["0.0.0.0/0", "10.1.2.3"] {
        let mut evil = (*decision).clone();
        evil.scope = scope.parse().expect("scope");
        send(KEY, "gateway:decisions", Word::Began(Arc::new(evil))).await;
    }
    until("refusals are counted", LONG, async || state.refused.load(Ordering::Relaxed) == 2).await;
    for host in 1..=9 {
        let decision = source.add(ban(&format!("192.0.2.{host}"))).await.expect("ban");
        send(KEY, "gateway:decisions", Word::Began(decision)).await;
    }
    until("the cap is counted", LONG, async || state.over_cap.load(Ordering::Relaxed) == 4).await;
    assert_eq!(ids(&victim).await.len(), 5);
    let mut text = String::new();
    state.metrics(&mut text).expect("metrics");
    assert!(text.contains("gateway_bans_cluster_forged_total 2\n"), "{text}");
}
