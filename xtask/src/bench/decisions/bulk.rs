//! Many decisions at once, and a large list swapped under requests.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{Cluster, Connection, Node, wait_until};

use super::percentile;

/// Longest wait for anything.
const LONGEST: Duration = Duration::from_secs(60);
/// Where the datagrams of banned clients go.
const BANNED_PORT: u16 = 9001;
/// Bans ordered at most beside a swap.
const MOST_BANS: u16 = 20_000;
/// From a day in 2001 on: ends of decisions lie in the far future, ids are unique.
const START_MS: u64 = 1_000_000_000_000;

/// Seconds from the order to take `count` decisions until the kernel has the last of them.
pub fn decisions(daemon: &Path, count: u32) -> Result<f64> {
    let mut cluster = Cluster::new(1, Some(daemon), super::ALONE)?;
    // In a database too, as in production.
    let file = cluster.nodes[0].folder().join("bans.redb");
    let database = format!("[bans]\ndatabase = {:?}", file.display().to_string());
    cluster.nodes[0].settings = cluster.nodes[0].settings.clone().with(&database);
    cluster.nodes[0].start()?;
    let node = &cluster.nodes[0];
    let mut body = String::from("[");
    for number in 0..count {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 0, 0, 0)) + number * 3);
        let comma = if number == 0 { "" } else { "," };
        write!(
            body,
            "{comma}{{\"id\":\"{:032x}\",\"scope\":\"{address}\",\"action\":\"kernel-ban\",\"origin\":\"operator\",\
             \"reason\":\"imported by the bench\",\"start_ms\":{START_MS},\"end_ms\":9000000000000,\"cause\":{{}}}}",
            (u128::from(START_MS) << 80) | u128::from(number)
        )?;
    }
    body.push(']');
    let started = Instant::now();
    let answer = post(node, "/v1/bans/import", body.as_bytes())?;
    ensure!(answer.contains(&format!("\"added\":{count}")), "the import says: {answer:.300}");
    wait_until("the kernel's last ban", LONGEST, || {
        node.metric("gateway_bans_kernel_written_total").ok().filter(|n| *n >= f64::from(count))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let held = node.gateway()?.ask(&["status"])?;
    let in_kernel = held["kernel"]["bans"].as_u64().context("the status tells the kernel's bans")?;
    ensure!(in_kernel == u64::from(count), "the kernel holds {in_kernel} bans, not {count}");
    Ok(seconds)
}

/// A call of the control API, without the command line's own reading of a large file.
fn post(node: &Node, path: &str, body: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(node.settings.socket())?;
    stream.set_read_timeout(Some(LONGEST))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How a swap of lists went.
pub struct Swap {
    /// From the order to look until the kernel drops by the new list, and no more by the old one.
    pub seconds: f64,
    /// p99 of requests before, in milliseconds.
    pub before: f64,
    /// p99 of requests while it lasted.
    pub during: f64,
    /// The longest request while it lasted.
    pub longest: f64,
    /// From an operator's order to the drop, in milliseconds, before.
    pub bans_before: Vec<f64>,
    /// The same while it lasted.
    pub bans_during: Vec<f64>,
}

/// Swaps a list of `entries` networks for another, under requests.
pub fn feed(daemon: &Path, entries: u32) -> Result<Swap> {
    let mut cluster = Cluster::new(1, Some(daemon), super::ALONE)?;
    let list = cluster.nodes[0].folder().join("list.txt");
    let config = format!(
        "[[bans.feeds]]\nname = \"large\"\nfile = {:?}\ninterval = \"1h\"",
        list.display().to_string()
    );
    cluster.nodes[0].settings = cluster.nodes[0].settings.clone().with(&config);
    let (old, new) = (Cluster::client(1), Cluster::client(2));
    write_list(&list, old, entries, 0)?;
    cluster.nodes[0].start()?;
    let node = &cluster.nodes[0];
    let (sink, banned_sink) = (node.sink()?, node.sink_at(BANNED_PORT)?);
    let passes = |client: Ipv4Addr| -> Result<bool> {
        let socket = cluster.datagrams(client)?;
        socket.send_to(b"x", node.sink_address())?;
        std::thread::sleep(Duration::from_micros(500));
        let mut datagram = [0; 8];
        Ok(std::iter::from_fn(|| sink.recv_from(&mut datagram).ok()).any(|(_, from)| from.ip() == client))
    };
    wait_until("the first list", LONGEST, || passes(old).ok().filter(|passes| !passes))?;
    ensure!(passes(new)?, "who is not listed is dropped");
    let stop = AtomicBool::new(false);
    let swapping = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| requests(&cluster, node, &stop, &swapping));
        let orders = scope.spawn(|| bans(&cluster, node, &banned_sink, &stop, &swapping));
        std::thread::sleep(Duration::from_secs(3));
        let beside = list.with_extension("new");
        write_list(&beside, new, entries, entries)?;
        std::fs::rename(&beside, &list)?;
        swapping.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let outcome = node.gateway()?.ask(&["feeds", "refresh"]).and_then(|_| {
            wait_until("the new list", LONGEST, || {
                let swapped = !passes(new).ok()? && passes(old).ok()?;
                swapped.then(|| started.elapsed().as_secs_f64())
            })
        });
        stop.store(true, Ordering::Relaxed);
        let (mut before, mut during) =
            load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (bans_before, bans_during) =
            orders.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Swap {
            bans_before,
            bans_during,
            seconds: outcome?,
            before: percentile(&mut before, 99.0),
            during: percentile(&mut during, 99.0),
            longest: percentile(&mut during, 100.0),
        })
    })
}

/// A list with `client` in it and other addresses, none of them another list's.
fn write_list(path: &Path, client: Ipv4Addr, entries: u32, skip: u32) -> Result<()> {
    let mut text = format!("# {entries} entries\n{client}\n");
    let start = u32::from(Ipv4Addr::new(20, 0, 0, 0));
    for number in 1..entries {
        writeln!(text, "{}", Ipv4Addr::from(start + (skip + number) * 5))?;
    }
    Ok(std::fs::write(path, text)?)
}

type Times = (Vec<f64>, Vec<f64>);

/// Bans one client after the other and watches its datagrams die; milliseconds from the order to the drop.
fn bans(
    cluster: &Cluster,
    node: &Node,
    sink: &std::net::UdpSocket,
    stop: &AtomicBool,
    swapping: &AtomicBool,
) -> Result<Times> {
    let (mut before, mut during) = (Vec::new(), Vec::new());
    for number in 0..MOST_BANS {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let is_during = swapping.load(Ordering::Relaxed);
        let client = Cluster::client(1000 + number);
        let ordered = Instant::now();
        let answer = post(node, "/v1/bans", format!("{{\"scope\":\"{client}\"}}").as_bytes())?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "the ban is refused: {answer:.300}");
        let to = std::net::SocketAddr::new(node.address(), BANNED_PORT);
        let took = super::reach::watch(cluster, client, &[(sink, to)], ordered)?;
        if is_during { &mut during } else { &mut before }.extend(took);
    }
    Ok((before, during))
}

/// Requests one after the other; their times before and during the swap, in milliseconds.
fn requests(cluster: &Cluster, node: &Node, stop: &AtomicBool, swapping: &AtomicBool) -> Result<Times> {
    let mut connection = Connection::open(&cluster.hub, node.http(), Duration::from_secs(2))?;
    let (mut before, mut during) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let is_during = swapping.load(Ordering::Relaxed);
        let started = Instant::now();
        let answer = connection.get("/products?id=17")?;
        ensure!(answer.status == 200, "a request is answered with {}", answer.status);
        let took = started.elapsed().as_secs_f64() * 1000.0;
        if is_during { &mut during } else { &mut before }.push(took);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((before, during))
}
