//! Decisions of several gateways: they spread into every kernel, nobody forges them, and they survive Redis.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{Cluster, Connection, CrowdSec, Node, run, text, wait_until};

/// An injection that the built-in rules refuse.
const ATTACK: &str = "GET /?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20- HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: x\r\n\r\n";
/// For what takes milliseconds, on a machine that may be busy.
const SOON: Duration = Duration::from_secs(20);
/// Neighbourhoods are not what is tested.
const ALONE: &str = "[bans.neighbours]\nenabled = false";

/// Attacks a node until it answers no more.
fn attack(cluster: &Cluster, client: Ipv4Addr, node: &Node) -> Result<()> {
    let mut stream = cluster.connect(client, node)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut answer = [0; 4096];
    for attacks in 0..20 {
        stream.write_all(ATTACK.as_bytes())?;
        match stream.read(&mut answer) {
            Ok(1..) => ensure!(answer.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&answer)),
            _ if attacks > 3 => return Ok(()),
            other => anyhow::bail!("attack {attacks}: {other:?}"),
        }
    }
    anyhow::bail!("{client} is still served")
}

#[test]
fn three_gateways_agree_before_during_and_after_an_outage_of_redis() -> Result<()> {
    let mut cluster = Cluster::new(3, None, ALONE)?;
    for node in &mut cluster.nodes {
        node.start()?;
    }
    let sinks: Vec<_> = cluster.nodes.iter().map(Node::sink).collect::<Result<_>>()?;
    // An attack on one node is dropped by the kernels of all.
    let attacker = Cluster::client(66);
    for (node, sink) in cluster.nodes.iter().zip(&sinks) {
        ensure!(cluster.passes(attacker, node, sink)?, "the attacker is not reached before it attacks");
    }
    attack(&cluster, attacker, &cluster.nodes[0])?;
    for (node, sink) in cluster.nodes.iter().zip(&sinks) {
        cluster.wait_passes(false, attacker, node, sink, SOON)?;
        ensure!(cluster.passes(Cluster::client(7), node, sink)?, "a bystander is dropped");
    }
    let why = cluster.nodes[2].gateway()?.ask(&["why", &attacker.to_string()])?;
    let summary = why["summary"].as_str().unwrap_or_default();
    ensure!(summary.contains("by peer:n1: scenario waf: 5 waf offences"), "{summary}");
    ensure!(why["decisions"][0]["cause"]["requests"].as_array().is_some_and(|r| r.len() == 5), "{why}");

    // Who can write to Redis, but has not the key, bans nobody; what a node wrote can't be replayed as another's.
    let redis =
        |arguments: &[&str]| text(cluster.hub.command("redis-cli").args(["-h", "10.83.1.1"]).args(arguments));
    let stream = "gateway:decisions";
    redis(&["XADD", stream, "*", "m", r#"{"node":"n2","word":{"began":{"scope":"10.90.0.7"}}}"#])?;
    redis(&["COPY", &format!("{stream}:held:n1"), &format!("{stream}:held:n3"), "REPLACE"])?;
    for node in &cluster.nodes {
        wait_until("the forgery is counted", SOON, || {
            node.metric("gateway_bans_cluster_forged_total").ok().filter(|n| *n >= 1.0)
        })?;
        ensure!(node.decisions()?.len() == 1, "a forged decision holds");
    }

    // Redis is gone: each goes on by itself. It comes back empty: all agree.
    cluster.stop_redis();
    for (number, node) in cluster.nodes.iter().enumerate() {
        for host in 0..5 {
            let client = Cluster::client(1000 + number as u16 * 100 + host).to_string();
            node.gateway()?.ask(&["ban", "add", &client, "--reason", "while Redis is gone"])?;
        }
    }
    attack(&cluster, Cluster::client(67), &cluster.nodes[1])?;
    cluster.nodes[0].gateway()?.ask(&["ban", "remove", &attacker.to_string()])?;
    std::thread::sleep(Duration::from_secs(3));
    cluster.start_redis()?;
    let took = cluster.agree(16, SOON)?;
    println!("all nodes agree {took:?} after Redis came back, empty");
    for (node, sink) in cluster.nodes.iter().zip(&sinks) {
        cluster.wait_passes(false, Cluster::client(67), node, sink, SOON)?;
        cluster.wait_passes(true, attacker, node, sink, SOON)?;
    }
    Ok(())
}

#[test]
fn a_peer_over_its_cap_is_refused_with_a_sentence() -> Result<()> {
    let mut cluster = Cluster::new(2, None, ALONE)?;
    cluster.nodes[1].settings = cluster.nodes[1].settings.clone().with("cap = 3");
    for node in &mut cluster.nodes {
        node.start()?;
    }
    for host in 1..=5 {
        let client = Cluster::client(host).to_string();
        cluster.nodes[0].gateway()?.ask(&["ban", "add", &client])?;
    }
    let other = &cluster.nodes[1];
    wait_until("the cap", SOON, || {
        other.metric("gateway_bans_cluster_over_cap_total").ok().filter(|n| *n >= 2.0)
    })?;
    ensure!(other.decisions()?.len() == 3, "{:?}", other.decisions()?);
    let log = other.gateway()?.log();
    ensure!(log.contains("a peer is over its cap: further decisions of it are refused"), "{log}");
    Ok(())
}

#[test]
fn a_reload_takes_over_guard_scenarios_and_what_counts() -> Result<()> {
    let mut cluster = Cluster::new(1, None, ALONE)?;
    let node = &mut cluster.nodes[0];
    let plain = node.settings.clone();
    node.start()?;
    let (banned, guarded) = (Cluster::client(1).to_string(), Cluster::client(2).to_string());
    for client in [&banned, &guarded] {
        node.gateway()?.ask(&["ban", "add", client])?;
    }
    // What the configuration guards from here on is released, and can't be banned any more.
    let strict = plain.with(&format!(
        "[bans]\nmanagement = [\"{guarded}\"]\n[bans.offences]\nhoneypots = [\"/trap\"]\n\
         [[bans.scenarios]]\nname = \"trap\"\nkinds = [\"honeypot\"]\ncapacity = 0\nleak = \"1s\"\naction = \"kernel-ban\""
    ));
    strict.write()?;
    let reloaded = node.gateway()?.ask(&["reload"])?;
    ensure!(reloaded["needs_restart"].as_array().is_some_and(Vec::is_empty), "{reloaded}");
    let node = &cluster.nodes[0];
    ensure!(node.decisions()?.len() == 1, "{:?}", node.decisions()?);
    let refused = node.gateway()?.ask(&["ban", "add", &guarded]).expect_err("guarded").to_string();
    ensure!(refused.contains("management sources"), "{refused}");
    // The new trap catches at once.
    let sink = node.sink()?;
    let client = Cluster::client(3);
    let mut stream = cluster.connect(client, node)?;
    stream.write_all(b"GET /trap HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: x\r\n\r\n")?;
    cluster.wait_passes(false, client, node, &sink, SOON)?;
    let why = node.gateway()?.ask(&["why", &client.to_string()])?;
    let summary = why["summary"].as_str().unwrap_or_default();
    ensure!(summary.contains("scenario trap: 1 honeypot offences"), "{summary}");
    Ok(())
}

#[test]
fn refusals_are_sentences_and_the_kernels_limits_lead_to_bans() -> Result<()> {
    let mut cluster = Cluster::new(1, None, ALONE)?;
    let node = &mut cluster.nodes[0];
    let limits = "allow = [\"10.90.9.9\"]\n[kernel.limits]\npackets = 50";
    node.settings = node.settings.clone().with_kernel(limits);
    node.start()?;
    let node = &cluster.nodes[0];
    for (scope, sentence) in [
        ("0.0.0.0/0", "is every address"),
        ("10.90.9.9", "the allowlist of the configuration"),
        ("10.83.1.2", "this host's own addresses"),
        ("10.90.0.0/16", "wider than /20"),
    ] {
        let refused = node.gateway()?.ask(&["ban", "add", scope]).expect_err(scope).to_string();
        ensure!(refused.contains(sentence), "{scope}: {refused}");
    }
    // A flood over the limit: its packets are dropped for the limit, and then for the ban.
    let client = Cluster::client(5);
    let socket = cluster.datagrams(client)?;
    let held = || -> Option<()> {
        for _ in 0..2_000 {
            let _ = socket.send_to(b"flood", node.sink_address());
        }
        let why = node.gateway().ok()?.ask(&["why", &client.to_string()]).ok()?;
        why["summary"].as_str()?.contains("kernel-limit offences").then_some(())
    };
    wait_until("a ban for the flood", SOON, held)?;
    Ok(())
}

#[test]
fn in_the_gateways_own_network_single_hosts_of_ipv6_are_banned() -> Result<()> {
    let mut cluster = Cluster::new(1, None, ALONE)?;
    let add = |command: &mut std::process::Command, address: &str, interface: &str| {
        run(command.args(["address", "add", address, "dev", interface, "nodad"]))
    };
    add(&mut cluster.nodes[0].netns.command("ip"), "fd83::1/64", "gw0")?;
    add(&mut cluster.hub.command("ip"), "fd83::66/64", "hub1")?;
    cluster.nodes[0].start()?;
    let node = &cluster.nodes[0];
    let to = "[fd83::1]:8080".parse()?;
    let limit = Duration::from_secs(2);
    for _ in 0..5 {
        let mut connection = Connection::open(&cluster.hub, to, limit)?;
        connection.send(ATTACK.as_bytes())?;
        ensure!(connection.receive()?.status == 403, "the attack is not refused");
    }
    wait_until("the drop", SOON, || Connection::open(&cluster.hub, to, Duration::from_millis(300)).err())?;
    let bans = node.gateway()?.ask(&["ban", "list"])?;
    let scope = bans["decisions"][0]["scope"].as_str().context("a ban")?;
    ensure!(scope == "fd83::66", "{bans}");
    Ok(())
}

#[test]
fn what_cscli_decides_is_dropped_in_the_kernel_within_the_interval_and_released() -> Result<()> {
    const INTERVAL: Duration = Duration::from_secs(2);
    let mut cluster = Cluster::new(1, None, ALONE)?;
    let node = &mut cluster.nodes[0];
    let folder = node.folder().join("crowdsec");
    let neighbour = CrowdSec::start(folder, 8081, None, Box::new(node.netns.commands()))?;
    let key = neighbour.folder.join("key").display().to_string();
    node.settings = node.settings.clone().with(&format!(
        "[bans.crowdsec]\nurl = \"http://127.0.0.1:8081\"\nkey_file = {key:?}\ninterval = \"2s\""
    ));
    node.start()?;
    let node = &cluster.nodes[0];
    let sink = node.sink()?;
    let (host, in_range, bystander) = (Cluster::client(1), Cluster::client(0x0207), Cluster::client(0x0307));
    for client in [host, in_range, bystander] {
        ensure!(cluster.passes(client, node, &sink)?, "{client} does not pass before anything is decided");
    }
    let range = "10.90.2.0/24";
    for (scope, value, client) in [("-i", host.to_string(), host), ("-r", range.to_owned(), in_range)] {
        neighbour.cscli(&["decisions", "add", scope, &value, "-d", "1h"])?;
        let took = cluster.wait_passes(false, client, node, &sink, SOON)?;
        println!("{value} is dropped {took:?} after cscli returned, at an interval of {INTERVAL:?}");
        ensure!(cluster.passes(bystander, node, &sink)?, "a bystander is dropped");
    }
    let why = node.gateway()?.ask(&["why", &in_range.to_string()])?;
    let summary = why["summary"].as_str().unwrap_or_default();
    ensure!(summary.contains("kernel-ban on 10.90.2.0/24 by crowdsec: manual 'ban'"), "{why}");
    ensure!(why["kernel"]["bans"][0]["target"] == range && why["kernel"]["dropped"] == true, "{why}");
    ensure!(why["kernel"]["bans"][0]["hits"].as_u64().is_some_and(|hits| hits > 0), "{why}");
    for (scope, value, client) in [("-r", range.to_owned(), in_range), ("-i", host.to_string(), host)] {
        neighbour.cscli(&["decisions", "delete", scope, &value])?;
        let took = cluster.wait_passes(true, client, node, &sink, SOON)?;
        println!("{value} passes {took:?} after cscli returned, at an interval of {INTERVAL:?}");
    }
    ensure!(node.decisions()?.is_empty(), "{:?}", node.decisions()?);
    Ok(())
}
