//! From the deciding request to the first dropped packet, on the node that decides and on the others.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gateway_tests::{Cluster, Node, wait_until};

/// An injection that the built-in rules refuse.
pub const ATTACK: &[u8] =
    b"GET /?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20- HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: x\r\n\r\n";
/// Attacks that the default scenario lets pass before it decides.
const BEFORE: usize = 4;
/// Between two datagrams to a node: the resolution.
const PACE: Duration = Duration::from_micros(20);
/// Datagrams in a row that must not get through for a ban to count as in force.
const SILENCE: usize = 25;
/// Longest wait for a drop.
const LONGEST: Duration = Duration::from_secs(5);

/// For every node the times of all offenders, in milliseconds; the first node is the one that is attacked.
pub fn measure(daemon: &Path, nodes: u8, offenders: u16) -> Result<Vec<Vec<f64>>> {
    let mut cluster = Cluster::new(nodes, Some(daemon), super::ALONE)?;
    for node in &mut cluster.nodes {
        // In a database too, as in production.
        let database =
            format!("[bans]\ndatabase = {:?}", node.folder().join("bans.redb").display().to_string());
        node.settings = node.settings.clone().with(&database);
        node.start()?;
    }
    if nodes > 1 {
        for node in &cluster.nodes {
            wait_until("the node's connection to Redis", Duration::from_secs(20), || {
                node.metric("gateway_bans_cluster_connected").ok().filter(|c| *c > 0.0)
            })?;
        }
    }
    let sockets: Vec<UdpSocket> = cluster.nodes.iter().map(Node::sink).collect::<Result<_>>()?;
    let addresses = cluster.nodes.iter().map(Node::sink_address);
    let sinks: Vec<(&UdpSocket, SocketAddr)> = sockets.iter().zip(addresses).collect();
    let mut times = vec![Vec::new(); cluster.nodes.len()];
    for number in 0..offenders {
        let client = Cluster::client(256 + number);
        let decided = attack(&cluster, client)?;
        for (of_node, time) in times.iter_mut().zip(watch(&cluster, client, &sinks, decided)?) {
            of_node.push(time);
        }
    }
    Ok(times)
}

/// Attacks the first node until it decides; when the answer to the deciding request was read.
fn attack(cluster: &Cluster, client: Ipv4Addr) -> Result<Instant> {
    let mut stream = cluster.connect(client, &cluster.nodes[0])?;
    for _ in 0..BEFORE {
        exchange(&mut stream)?;
        // A tool's pace: each offence is judged when the next one comes.
        std::thread::sleep(Duration::from_millis(1));
    }
    exchange(&mut stream)
}

fn exchange(stream: &mut TcpStream) -> Result<Instant> {
    let mut answer = [0; 4096];
    stream.write_all(ATTACK)?;
    let length = stream.read(&mut answer).context("no answer to an attack")?;
    let at = Instant::now();
    ensure!(answer[..length].starts_with(b"HTTP/1.1 403"), "an attack is not refused");
    Ok(at)
}

/// Milliseconds from `decided` to the first datagram that each node's kernel drops.
pub fn watch(
    cluster: &Cluster,
    client: Ipv4Addr,
    sinks: &[(&UdpSocket, SocketAddr)],
    decided: Instant,
) -> Result<Vec<f64>> {
    let socket = cluster.datagrams(client)?;
    // A full queue is not a drop of the gateway's: the sender waits for nothing.
    socket.set_nonblocking(true)?;
    let mut sent: Vec<Vec<Instant>> = vec![Vec::new(); sinks.len()];
    let mut through = vec![0; sinks.len()];
    loop {
        let mut all_silent = true;
        for (number, (sink, to)) in sinks.iter().enumerate() {
            if sent[number].len() - through[number] >= SILENCE {
                continue;
            }
            all_silent = false;
            let datagram = (sent[number].len() as u64).to_le_bytes();
            let at = Instant::now();
            if socket.send_to(&datagram, to).is_ok() {
                sent[number].push(at);
            }
            while at.elapsed() < PACE {
                std::hint::spin_loop();
            }
            drain(sink, client, &mut through[number]);
        }
        if all_silent {
            break;
        }
        if decided.elapsed() > LONGEST {
            bail!("{client} is not dropped everywhere {LONGEST:?} after it was banned");
        }
    }
    // What was on its way still counts as through.
    std::thread::sleep(Duration::from_millis(2));
    let mut times = Vec::new();
    for (number, (sink, _)) in sinks.iter().enumerate() {
        drain(sink, client, &mut through[number]);
        let first = sent[number].get(through[number]).context("the datagrams got through after all")?;
        times.push(first.saturating_duration_since(decided).as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// Takes what came; `through` is the number of the last datagram of the client, from 1.
fn drain(sink: &UdpSocket, client: Ipv4Addr, through: &mut usize) {
    let mut datagram = [0; 8];
    while let Ok((_, from)) = sink.recv_from(&mut datagram) {
        if from.ip() == client {
            *through = (*through).max(u64::from_le_bytes(datagram) as usize + 1);
        }
    }
}
