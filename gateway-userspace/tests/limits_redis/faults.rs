//! What goes wrong with Redis, and what must go on.

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::node::Node;
use super::server::{Server, cluster, free_port};

fn limits(port: u16, more_store: &str, limit: &str) -> String {
    // A deadline that a busy machine keeps, where the test names none: counts are compared exactly.
    let deadline = if more_store.contains("deadline") { "" } else { "deadline = \"50ms\"" };
    format!(
        "[limit_store]\nredis = [\"127.0.0.1:{port}\"]\nbreaker_probe = \"100ms\"\n{deadline}\n{more_store}\n\
         [[limits]]\nname = \"l\"\nquota = 40\nwindow = \"1h\"\n{limit}"
    )
}

/// Lines that were logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("lines")).into_owned()
    }

    fn containing(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lines").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Asks for many clients and gives how long each took.
async fn timed(node: &Node, requests: usize) -> (usize, Vec<Duration>) {
    let (mut passed, mut times) = (0, Vec::new());
    for i in 0..requests {
        let client = format!("10.0.{}.{}", i / 250, i % 250);
        let started = Instant::now();
        passed += usize::from(node.ask(&client, "", Some(200)).await);
        times.push(started.elapsed());
    }
    times.sort();
    (passed, times)
}

/// One thread, so that the log of all tasks is seen here.
#[tokio::test]
async fn paused_and_back() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut server = Server::single();
    let node = Node::new(&limits(server.port, "nodes = 4", ""));
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.1", "", 20).await, 20);
    server.pause();
    let (passed, times) = timed(&node, 2_000).await;
    assert_eq!(passed, 2_000, "no request fails for it");
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(5), "p99 {p99:?}");
    assert!(times[times.len() - 1] < Duration::from_millis(150), "the slowest {:?}", times[times.len() - 1]);
    assert_eq!(node.limiter.shared_usable(), Some(false));
    // 20 units are gone, and its own share is 10: what it knows is over it.
    assert_eq!(node.passed("192.0.2.1", "", 20).await, 0);
    assert_eq!(node.passed("192.0.2.2", "", 20).await, 10, "a quarter of 40");
    server.resume();
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.1", "", 30).await, 20, "Redis remembered");
    assert_eq!(lines.containing("cannot be asked"), 1, "{}", lines.text());
    assert_eq!(lines.containing("limits: Redis answers again"), 1);
    assert_eq!(lines.containing("WARN"), 1, "{}", lines.text());
}

#[tokio::test]
async fn killed_and_back() {
    let mut server = Server::single();
    let node = Node::new(&limits(server.port, "", ""));
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.1", "", 25).await, 25);
    server.kill();
    let (passed, times) = timed(&node, 500).await;
    assert_eq!(passed, 500);
    assert!(times[495] <= Duration::from_millis(6), "p99 {:?}", times[495]);
    assert_eq!(node.limiter.shared_usable(), Some(false));
    server.restart();
    node.until_usable(true).await;
    // Redis has forgotten; the node has not.
    assert_eq!(node.passed("192.0.2.1", "", 50).await, 15);
}

#[tokio::test]
async fn fallbacks() {
    for (fallback, nodes, expected) in [("local", 4, 10), ("local", 1, 40), ("open", 4, 60), ("closed", 4, 0)]
    {
        // Nothing listens there.
        let text = limits(free_port(), &format!("nodes = {nodes}"), &format!("fallback = \"{fallback}\""));
        let node = Node::new(&text);
        let started = Instant::now();
        assert_eq!(node.passed("192.0.2.1", "", 60).await, expected, "{fallback} {nodes}");
        assert!(started.elapsed() < Duration::from_secs(1), "nobody waits for what is not there");
        assert_eq!(node.metric("gateway_limits_requests_total{limit=\"l\",outcome=\"fallback\"}"), 60);
    }
}

#[tokio::test]
async fn out_of_memory() {
    let server = Server::single();
    let node = Node::new(&limits(server.port, "", ""));
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.1", "", 10).await, 10);
    server.command("CONFIG SET maxmemory 1");
    let (passed, _) = timed(&node, 200).await;
    assert_eq!(passed, 200);
    node.until_usable(false).await;
    server.command("CONFIG SET maxmemory 0");
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.1", "", 50).await, 30);
}

/// A way to Redis that can be slow, or cut.
struct Way {
    port: u16,
    delay_ms: Arc<AtomicU64>,
    cut: Arc<AtomicBool>,
}

async fn way_to(port: u16) -> Way {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let own = listener.local_addr().expect("its address").port();
    let (delay_ms, cut) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let way = Way { port: own, delay_ms: Arc::clone(&delay_ms), cut: Arc::clone(&cut) };
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
            let (client_in, client_out) = client.into_split();
            let (server_in, server_out) = server.into_split();
            for (mut from, mut to) in [(client_in, server_out), (server_in, client_out)] {
                let (delay_ms, cut) = (Arc::clone(&delay_ms), Arc::clone(&cut));
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(n) = from.read(&mut buffer).await {
                        if n == 0 {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed))).await;
                        // A cut way swallows what is sent: no reset, no end.
                        if !cut.load(Ordering::Relaxed) && to.write_all(&buffer[..n]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    way
}

#[tokio::test]
async fn slow_and_cut_off() {
    let server = Server::single();
    let way = way_to(server.port).await;
    let node = Node::new(&limits(way.port, "deadline = \"10ms\"", ""));
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.1", "", 10).await, 10);
    way.delay_ms.store(25, Ordering::Relaxed);
    let (passed, times) = timed(&node, 500).await;
    assert_eq!(
        (passed, node.limiter.shared_usable()),
        (500, Some(false)),
        "slower than the deadline is down"
    );
    assert!(times[490] < Duration::from_millis(5), "98% wait for nothing: {:?}", times[490]);
    way.delay_ms.store(0, Ordering::Relaxed);
    node.until_usable(true).await;
    way.cut.store(true, Ordering::Relaxed);
    let (passed, _) = timed(&node, 500).await;
    assert_eq!((passed, node.limiter.shared_usable()), (500, Some(false)));
    way.cut.store(false, Ordering::Relaxed);
    node.until_usable(true).await;
    assert!(node.passed("192.0.2.1", "", 50).await <= 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_admits_its_share_at_most() {
    let server = Server::single();
    let way = way_to(server.port).await;
    let there = Node::new(&limits(server.port, "nodes = 2", ""));
    let apart = Node::new(&limits(way.port, "nodes = 2", ""));
    there.until_usable(true).await;
    apart.until_usable(true).await;
    way.cut.store(true, Ordering::Relaxed);
    let together = there.passed("192.0.2.1", "", 60).await + apart.passed("192.0.2.1", "", 60).await;
    // The documented bound: the quota, and quota / nodes for each node that is cut off.
    assert!((40..=60).contains(&together), "{together}");
}

#[tokio::test]
async fn a_sentinel_fails_over() {
    let mut master = Server::single();
    let replica = Server::with(free_port(), &["--replicaof", &format!("127.0.0.1 {}", master.port)]);
    let sentinel = Server::sentinel("main", master.port);
    let until = Instant::now() + Duration::from_secs(15);
    while !sentinel.command("SENTINEL replicas main").contains(&replica.port.to_string())
        || !replica.command("INFO replication").contains("master_link_status:up")
    {
        assert!(Instant::now() < until, "the sentinel finds no replica");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let node =
        Node::new(&limits(sentinel.port, "kind = \"sentinel\"\nmaster = \"main\"\ndeadline = \"50ms\"", ""));
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.1", "", 25).await, 25);
    tokio::time::sleep(Duration::from_millis(200)).await;
    master.kill();
    let (passed, _) = timed(&node, 200).await;
    assert_eq!(passed, 200, "no request fails for it");
    node.until_usable(false).await;
    node.until_usable(true).await;
    assert!(replica.command("ROLE").contains("master"));
    assert_eq!(node.passed("192.0.2.1", "", 50).await, 15, "the new master knows what counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_under_load() {
    let nodes = cluster();
    let text = limits(nodes[0].port, "kind = \"cluster\"\ndeadline = \"200ms\"", "");
    let node = Node::new(&text);
    node.until_usable(true).await;
    assert_eq!(node.passed("192.0.2.77", "", 10).await, 10);
    let redis_cli = |port: u16, arguments: &str| {
        let out = Command::new("redis-cli")
            .args(["-p", &port.to_string()])
            .args(arguments.split(' '))
            .output()
            .expect("redis-cli must be installed for this test");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let slot = redis_cli(nodes[0].port, "CLUSTER KEYSLOT rl:{a:192.0.2.77}");
    let holds = |port: u16| redis_cli(port, &format!("CLUSTER COUNTKEYSINSLOT {slot}")) != "0";
    let is_master = |port: u16| redis_cli(port, "ROLE").starts_with("master");
    let masters: Vec<u16> = nodes.iter().map(|n| n.port).filter(|port| is_master(*port)).collect();
    let from = *masters.iter().find(|port| holds(**port)).expect("somebody holds the key");
    let to = *masters.iter().find(|port| **port != from).expect("another master");
    let (from_id, to_id) = (redis_cli(from, "CLUSTER MYID"), redis_cli(to, "CLUSTER MYID"));
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (node, stop) = (node.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut passed = 0;
            while !stop.load(Ordering::Relaxed) {
                passed += usize::from(node.ask("192.0.2.77", "", Some(200)).await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            passed
        })
    };
    assert_eq!(redis_cli(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")), "OK");
    assert_eq!(redis_cli(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")), "OK");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(redis_cli(from, &format!("MIGRATE 127.0.0.1 {to} rl:{{a:192.0.2.77}} 0 5000")), "OK");
    tokio::time::sleep(Duration::from_millis(50)).await;
    for master in &masters {
        assert_eq!(redis_cli(*master, &format!("CLUSTER SETSLOT {slot} NODE {to_id}")), "OK");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let passed = load.await.expect("the load");
    assert!((27..=30).contains(&passed), "{passed} of the 30 that were left");
    assert_eq!(node.metric("gateway_limits_redis_breaker_opened_total"), 0);
}
