//! Several gateways around one Redis, and clients that reach each of them from the same addresses.
//!
//! A hub holds the clients and Redis; a cable goes from it to every node. Clients have addresses of 10.90.0.0/16, which
//! every node routes to the hub: what one node bans can be watched at the others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};

use crate::command::{run, wait_until};
use crate::gateway::{Gateway, Settings};
use crate::lab::mount_bpffs;
use crate::netns::Netns;
use crate::origin::Origin;
use crate::redis::Redis;
use crate::scratch::{Scratch, unique};

/// Where Redis listens, on every cable.
const REDIS_PORT: u16 = 6379;
/// Where a node counts datagrams.
const SINK_PORT: u16 = 9000;
/// The key that the nodes sign with.
const KEY: &str = "a key of the test, longer than 32 bytes\n";
/// The interface of a node.
const INTERFACE: &str = "gw0";

/// One gateway with its origin.
#[derive(Debug)]
pub struct Node {
    /// The daemon, while it runs.
    pub gateway: Option<Gateway>,
    /// Its configuration.
    pub settings: Settings,
    /// The service behind it.
    pub origin: Origin,
    /// Where it lives.
    pub netns: Netns,
    number: u8,
    folder: Scratch,
    pin: PathBuf,
}

impl Node {
    /// Its address as clients see it.
    pub fn address(&self) -> IpAddr {
        Ipv4Addr::new(10, 83, self.number, 2).into()
    }

    /// Its plain HTTP listener.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.address(), Settings::HTTP_PORT)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The daemon.
    pub fn gateway(&self) -> Result<&Gateway> {
        self.gateway.as_ref().context("the node's gateway does not run")
    }

    /// Starts the daemon.
    pub fn start(&mut self) -> Result<()> {
        self.gateway = Some(Gateway::start(&self.netns, &self.settings)?);
        Ok(())
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let page = self.gateway()?.metrics(&self.netns)?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no metric {name}"))?.parse().context("a metric is a number")
    }

    /// The ids of all decisions that it holds, in order.
    pub fn decisions(&self) -> Result<Vec<String>> {
        let export = self.gateway()?.ask(&["ban", "export"])?;
        let all = export.as_array().context("an export is a list")?;
        let mut ids: Vec<String> =
            all.iter().filter_map(|d| d.get("id")?.as_str().map(str::to_owned)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// A socket that counts the datagrams that get through to the node.
    pub fn sink(&self) -> Result<std::net::UdpSocket> {
        self.sink_at(SINK_PORT)
    }

    /// The same at another port.
    pub fn sink_at(&self, port: u16) -> Result<std::net::UdpSocket> {
        let socket = self
            .netns
            .inside(|| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("no sink"))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Where that socket is.
    pub fn sink_address(&self) -> SocketAddr {
        SocketAddr::new(self.address(), SINK_PORT)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.gateway = None;
        let _ = std::fs::remove_dir_all(&self.pin);
    }
}

/// The scene.
#[derive(Debug)]
pub struct Cluster {
    /// The gateways.
    pub nodes: Vec<Node>,
    /// Redis, while it runs.
    pub redis: Option<Redis>,
    /// Where clients and Redis live.
    pub hub: Netns,
}

impl Cluster {
    /// Builds `nodes` nodes, with a kernel side each, and starts Redis where they are more than one. `more` is added to every
    /// configuration. The daemons are not running yet.
    pub fn new(nodes: u8, daemon: Option<&Path>, more: &str) -> Result<Self> {
        mount_bpffs()?;
        let hub = Netns::new()?;
        let mut all = Vec::new();
        for number in 1..=nodes {
            let netns = Netns::new()?;
            let (there, here) = (format!("10.83.{number}.1/24"), format!("10.83.{number}.2/24"));
            hub.cable((&format!("hub{number}"), &[&there]), &netns, (INTERFACE, &[&here]))?;
            let via = format!("10.83.{number}.1");
            run(netns.command("ip").args(["route", "add", "10.90.0.0/16", "via", &via]))?;
            let folder = Scratch::new()?;
            let origin = Origin::start(&netns)?;
            let pin = Path::new("/sys/fs/bpf").join(unique("gw-node"));
            let mut settings =
                Settings::new(folder.path(), origin.address()).guard(&[INTERFACE], &pin).with(more);
            if nodes > 1 {
                folder.write("url", &format!("redis://10.83.{number}.1:{REDIS_PORT}/\n"))?;
                folder.write("key", KEY)?;
                settings = settings.with(&format!(
                    "[bans.cluster]\nnode = \"n{number}\"\nredis_file = \"url\"\nkey_file = \"key\""
                ));
            }
            if let Some(daemon) = daemon {
                settings = settings.daemon(daemon);
            }
            all.push(Node { gateway: None, settings, origin, netns, number, folder, pin });
        }
        // Any address of the network is one of the hub's.
        run(hub.command("ip").args(["route", "add", "local", "10.90.0.0/16", "dev", "lo"]))?;
        let mut cluster = Self { nodes: all, redis: None, hub };
        if nodes > 1 {
            cluster.start_redis()?;
        }
        Ok(cluster)
    }

    /// Starts Redis, empty.
    pub fn start_redis(&mut self) -> Result<()> {
        self.redis = Some(Redis::open(&self.hub, REDIS_PORT)?);
        Ok(())
    }

    /// Kills Redis.
    pub fn stop_redis(&mut self) {
        self.redis = None;
    }

    /// Waits until all nodes hold the same decisions, `count` of them; how long that took.
    pub fn agree(&self, count: usize, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let asked = start.elapsed();
            let all: Vec<Vec<String>> = self.nodes.iter().map(Node::decisions).collect::<Result<_>>()?;
            if all.iter().all(|ids| ids.len() == count && *ids == all[0]) {
                // It took no longer than until the question was put.
                return Ok(asked);
            }
            let held: Vec<usize> = all.iter().map(Vec::len).collect();
            ensure!(
                start.elapsed() < limit,
                "the nodes hold {held:?} decisions, not {count} each, after {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client's address.
    pub fn client(number: u16) -> Ipv4Addr {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(10, 90, high, low)
    }

    /// A TCP connection from a client to a node; the socket may be used from anywhere.
    pub fn connect(&self, client: Ipv4Addr, node: &Node) -> Result<std::net::TcpStream> {
        let to = node.http();
        let stream = self.hub.inside(|| {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            bind(&socket, &SocketAddr::new(client.into(), 0))?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(Duration::from_secs(2)))?;
            connect(&socket, &to).with_context(|| format!("no connection from {client} to {to}"))?;
            Ok(std::net::TcpStream::from(socket))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    }

    /// Whether a client's datagram reaches a node's sink.
    pub fn passes(&self, client: Ipv4Addr, node: &Node, sink: &std::net::UdpSocket) -> Result<bool> {
        let socket = self.datagrams(client)?;
        let mut datagram = [0; 16];
        for _ in 0..20 {
            socket.send_to(b"x", node.sink_address())?;
            std::thread::sleep(Duration::from_millis(2));
            if let Ok((_, from)) = sink.recv_from(&mut datagram)
                && from.ip() == client
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until a client's datagrams reach a node's sink, or do no more; how long that took.
    pub fn wait_passes(
        &self,
        passes: bool,
        client: Ipv4Addr,
        node: &Node,
        sink: &std::net::UdpSocket,
        limit: Duration,
    ) -> Result<Duration> {
        let what = format!("the {} of {client}", if passes { "release" } else { "drop" });
        let start = Instant::now();
        wait_until(&what, limit, || self.passes(client, node, sink).ok().filter(|now| *now == passes))?;
        Ok(start.elapsed())
    }

    /// A datagram socket of a client.
    pub fn datagrams(&self, client: Ipv4Addr) -> Result<std::net::UdpSocket> {
        self.hub.inside(|| std::net::UdpSocket::bind((client, 0)).context("no socket of a client"))
    }
}
