//! Three gateways in namespaces of their own share one limit through a real Redis: what they admit together, what it
//! costs, and what happens while one of them is cut off, has a wrong clock, or Redis stands still.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{Connection, Gateway, Netns, Origin, Redis, Scratch, Settings, daemon, run, wait_until};

const NODES: usize = 3;
const REDIS: u16 = 6390;
/// Longest wait for what takes a moment.
const SOON: Duration = Duration::from_secs(10);

/// One gateway with its origin, on a cable to Redis.
struct Node {
    gateway: Gateway,
    _origin: Origin,
    _folder: Scratch,
    netns: Netns,
}

struct Cluster {
    nodes: Vec<Node>,
    redis: Redis,
    _hub: Netns,
}

impl Cluster {
    /// Starts everything; `clocks` are what `faketime` is told, one for each node, empty for the machine's own clock.
    fn start(limit: &str, store: &str, clocks: [&str; NODES]) -> Result<Self> {
        let hub = Netns::new()?;
        let mut places = Vec::new();
        for number in 0..NODES {
            let netns = Netns::new()?;
            let (here, there) = (format!("10.78.{number}.1/24"), format!("10.78.{number}.2/24"));
            hub.cable((&format!("node{number}"), &[&here]), &netns, ("redis0", &[&there]))?;
            places.push(netns);
        }
        let redis = Redis::open(&hub, REDIS)?;
        let mut nodes = Vec::new();
        for (number, netns) in places.into_iter().enumerate() {
            let folder = Scratch::new()?;
            let origin = Origin::start(&netns)?;
            let store = format!(
                "[limit_store]\nredis = [\"10.78.{number}.1:{REDIS}\"]\nnodes = {NODES}\nbreaker_probe = \"300ms\"\n{store}\n{limit}"
            );
            let mut settings = Settings::new(folder.path(), origin.address()).with(&store);
            if let Some(clock) = clocks.get(number).filter(|clock| !clock.is_empty()) {
                settings = settings.daemon(&late(&folder, clock)?);
            }
            let gateway = Gateway::start(&netns, &settings)?;
            nodes.push(Node { gateway, _origin: origin, _folder: folder, netns });
        }
        let cluster = Self { nodes, redis, _hub: hub };
        for node in &cluster.nodes {
            node.breaker(false)?;
        }
        Ok(cluster)
    }

    fn sum(&self, metric: &str) -> Result<f64> {
        self.nodes.iter().map(|node| node.gateway.metric(&node.netns, metric)).sum()
    }

    /// Asks all nodes at once, each over `connections` connections, for a time; what came of it.
    fn flood(&self, key: &str, connections: usize, time: Duration, rate: Option<f64>) -> Result<Flood> {
        let until = Instant::now() + time;
        let workers: Vec<_> =
            self.nodes.iter().flat_map(|node| std::iter::repeat_n(node, connections)).collect();
        let share = rate.map(|rate| rate / workers.len() as f64);
        let floods = std::thread::scope(|scope| {
            let threads: Vec<_> =
                workers.iter().map(|node| scope.spawn(move || node.flood(key, until, share))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Result<Vec<Flood>>>()
        })?;
        Ok(floods.into_iter().fold(Flood::default(), Flood::with))
    }
}

impl Cluster {
    /// Floods a new key and holds what is admitted against the documented bound: the quota, and a share for each node that could not
    /// ask Redis. `cut` of them are known to be cut off; on a machine that is slower than the deadline there may be more.
    fn bounded(&self, key: &str, quota: usize, cut: usize) -> Result<usize> {
        let fallbacks = || -> Result<Vec<f64>> {
            let name = "gateway_limits_requests_total{limit=\"shared\",outcome=\"fallback\"}";
            self.nodes.iter().map(|node| node.gateway.metric(&node.netns, name)).collect()
        };
        let before = fallbacks()?;
        let admitted = self.flood(key, 2, Duration::from_secs(6), None)?.admitted.len();
        let alone = before.iter().zip(fallbacks()?).filter(|(before, after)| after > before).count();
        let bound = quota + alone * (quota / NODES);
        ensure!(admitted <= bound, "{key}: {admitted} of {quota}, {alone} nodes alone");
        ensure!(alone >= cut, "{key}: {alone} nodes fell back, {cut} are cut off");
        let least = quota * 95 / 100;
        ensure!(alone > cut || admitted >= least, "{key}: {admitted} of {quota}, {alone} nodes alone");
        Ok(admitted)
    }
}

/// A script that runs the daemon with another clock. Only the wall clock: the monotonic one is the machine's.
fn late(folder: &Scratch, clock: &str) -> Result<std::path::PathBuf> {
    let daemon = daemon()?;
    let script = format!(
        "#!/bin/sh\nLD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1) FAKETIME='{clock}' \\\n\
         FAKETIME_DONT_FAKE_MONOTONIC=1 exec '{}' \"$@\"\n",
        daemon.display()
    );
    let file = folder.write("gateway-late", &script)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

#[derive(Default)]
struct Flood {
    asked: usize,
    /// When a request was sent that was admitted, and when its answer was here: it was admitted in between.
    admitted: Vec<(Instant, Instant)>,
    /// How long each request took.
    took: Vec<Duration>,
}

impl Flood {
    fn with(mut self, other: Self) -> Self {
        self.asked += other.asked;
        self.admitted.extend(other.admitted);
        self.took.extend(other.took);
        self
    }

    fn p99(&mut self) -> Duration {
        self.took.sort();
        self.took.get(self.took.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// The most whose whole time lies in one stretch of this length. From outside no more can be known: on a busy machine this
    /// side runs again long after the gateway has decided.
    fn most_in(&self, window: Duration) -> usize {
        let within = |from: Instant| {
            self.admitted.iter().filter(|(sent, here)| *sent >= from && *here - from < window).count()
        };
        self.admitted.iter().map(|(sent, _)| within(*sent)).max().unwrap_or(0)
    }
}

impl Node {
    fn flood(&self, key: &str, until: Instant, rate: Option<f64>) -> Result<Flood> {
        let open =
            || Connection::open(&self.netns, SocketAddr::from(([127, 0, 0, 1], Settings::HTTP_PORT)), SOON);
        let mut connection = open()?;
        let head = format!(
            "GET / HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\nx-key: {key}\r\n\r\n"
        );
        let mut flood = Flood::default();
        let started = Instant::now();
        while Instant::now() < until {
            let due = rate.map(|rate| started + Duration::from_secs_f64(flood.asked as f64 / rate));
            if let Some(early) = due.and_then(|due| due.checked_duration_since(Instant::now())) {
                std::thread::sleep(early);
            }
            let sent = Instant::now();
            connection.send(head.as_bytes())?;
            let answer = connection.receive()?;
            flood.asked += 1;
            flood.took.push(sent.elapsed());
            match answer.status {
                200 => flood.admitted.push((sent, Instant::now())),
                429 => {}
                other => anyhow::bail!("a request failed: {other} {}", answer.body),
            }
            // A connection takes a bounded number of requests.
            if answer.header("connection") == Some("close") {
                connection = open()?;
            }
        }
        Ok(flood)
    }

    /// Waits until the breaker is open, or closed.
    fn breaker(&self, open: bool) -> Result<()> {
        let wanted = f64::from(u8::from(open));
        wait_until(if open { "an open breaker" } else { "a closed breaker" }, SOON * 2, || {
            let state = self.gateway.metric(&self.netns, "gateway_limits_redis_breaker_open").ok()?;
            ((state - wanted).abs() < 0.5).then_some(())
        })
        .with_context(|| self.gateway.log())
    }

    /// Pulls the cable to Redis, or puts it back.
    fn cable(&self, state: &str) -> Result<()> {
        run(self.netns.command("ip").args(["link", "set", "redis0", state]))
    }

    /// The log says once of each opening of the breaker that it opened, and once that it closed.
    fn told_of_each_opening(&self) -> Result<f64> {
        let opened = self.gateway.metric(&self.netns, "gateway_limits_redis_breaker_opened_total")?;
        let log = self.gateway.log();
        let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        let (down, up) = (lines("applies until it answers again"), lines("Redis answers again"));
        let told: Vec<&str> = log.lines().filter(|line| line.contains("limits:")).collect();
        ensure!((down as f64 - opened).abs() < 0.5 && down == up, "{opened} openings: {told:#?}");
        Ok(opened)
    }
}

fn by_key(quota: u32, window: &str) -> String {
    format!(
        "[[limits]]\nname = \"shared\"\nkey = [\"header:x-key\"]\nquota = {quota}\nwindow = \"{window}\"\noffence_after = 0"
    )
}

const OWN_CLOCKS: [&str; NODES] = [""; NODES];

#[test]
fn a_hot_key_costs_few_commands() -> Result<()> {
    let cluster = Cluster::start(&by_key(100_000_000, "1m"), "deadline = \"50ms\"", OWN_CLOCKS)?;
    let before = cluster.sum("gateway_limits_redis_commands_total")?;
    let time = Duration::from_secs(5);
    let mut flood = cluster.flood("hot", 4, time, Some(10_000.0))?;
    let commands = cluster.sum("gateway_limits_redis_commands_total")? - before;
    let each = commands / flood.asked as f64;
    println!(
        "numbers: {:.0} requests a second over {NODES} gateways, {each:.4} commands a request, p99 {:?}",
        flood.asked as f64 / time.as_secs_f64(),
        flood.p99()
    );
    ensure!(flood.admitted.len() == flood.asked, "all are under the limit");
    // A slow machine asks for less in the same time: what is spent on time alone is allowed besides.
    ensure!(commands <= 0.02 * flood.asked as f64 + 60.0, "{commands} commands for {} requests", flood.asked);
    Ok(())
}

#[test]
fn together_and_cut_off_they_keep_the_bound() -> Result<()> {
    const QUOTA: usize = 300;
    let cluster = Cluster::start(&by_key(300, "1h"), "deadline = \"100ms\"", OWN_CLOCKS)?;
    let whole = cluster.bounded("whole", QUOTA, 0)?;

    let apart = &cluster.nodes[2];
    apart.cable("down")?;
    // It notices by asking.
    apart.flood("notice", Instant::now() + Duration::from_secs(2), None)?;
    apart.breaker(true)?;
    let cut = cluster.bounded("cut", QUOTA, 1)?;

    apart.cable("up")?;
    apart.breaker(false)?;
    let again = cluster.bounded("again", QUOTA, 0)?;
    ensure!(apart.told_of_each_opening()? >= 1.0, "the breaker never opened");
    println!("numbers: of {QUOTA}: {whole} together, {cut} with one of {NODES} cut off, {again} afterwards");
    Ok(())
}

#[test]
fn wrong_clocks_admit_no_more() -> Result<()> {
    const QUOTA: usize = 200;
    let window = Duration::from_secs(4);
    let cluster = Cluster::start(&by_key(200, "4s"), "deadline = \"100ms\"", ["", "+3h", "-400d"])?;
    let flood = cluster.flood("skewed", 1, window * 3, None)?;
    let (most, all) = (flood.most_in(window), flood.admitted.len());
    println!(
        "numbers: clocks 3 h ahead and 400 d behind: {all} admitted in 3 windows of {QUOTA}, {most} in one at most"
    );
    ensure!(most <= QUOTA, "{most} of {QUOTA} in one window");
    ensure!(all >= QUOTA * 2, "{all} in three windows");
    Ok(())
}

#[test]
fn redis_stands_still_and_nobody_waits() -> Result<()> {
    let deadline = Duration::from_millis(20);
    let cluster = Cluster::start(&by_key(100_000_000, "1m"), "deadline = \"20ms\"", OWN_CLOCKS)?;
    let before = cluster.flood("k", 2, Duration::from_secs(3), Some(300.0))?.p99();
    cluster.redis.pause()?;
    let during = cluster.flood("k", 2, Duration::from_secs(10), Some(300.0))?.p99();
    cluster.redis.resume()?;
    for node in &cluster.nodes {
        node.breaker(false)?;
    }
    let mut opened = 0.0;
    for node in &cluster.nodes {
        let here = node.told_of_each_opening()?;
        ensure!(here >= 1.0, "a breaker never opened");
        opened += here;
    }
    println!(
        "numbers: p99 {before:?} before, {during:?} while Redis stood still for 10 s; {opened} openings of {NODES}"
    );
    // A loaded machine adds what it likes to a request; ten times the deadline it does not.
    ensure!(during < before + deadline * 10, "p99 {before:?} before, {during:?} while Redis stood still");
    Ok(())
}
