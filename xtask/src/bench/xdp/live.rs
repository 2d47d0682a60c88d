//! Live frames over veth: a good client beside a flood, with the gateway off, observing and enforcing.
//!
//! The gateway, its origin and the client run on every core but the last; the flood's sender, and so the receiving
//! softirq of its cable, on the last alone. The client opens a connection for each request at a rate that leaves most of
//! its core idle: what is measured is what the flood does to it, not how much it can do.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Gateway, Lab, Netns, Settings, run as command, text};

use super::super::report::{Report, Row};
use super::janitor::Janitor;
use super::sender::{PACKETS, Sender};

/// The port that the flood of random sources aims at: closed by policy, which refuses new connections.
const CLOSED: u16 = 9;
/// Each kind has the machine for as long as this, in turns, so that what else the machine does disturbs each alike.
const SLICE: Duration = Duration::from_secs(1);
/// Longest that a request may take to count as answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the client saw, over all rounds.
#[derive(Debug, Default)]
struct Seen {
    /// Of the requests that were answered, in milliseconds.
    latencies: Vec<f64>,
    /// Why the others were not, and how often.
    failed: BTreeMap<String, usize>,
    sent: usize,
    seconds: f64,
}

impl Seen {
    fn success(&self) -> f64 {
        self.latencies.len() as f64 / (self.sent.max(1)) as f64
    }

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    fn p99(&self) -> f64 {
        self.percentile(99)
    }

    /// A request that was not answered took as long as it could.
    fn percentile(&self, percent: usize) -> f64 {
        let mut all = self.latencies.clone();
        all.resize(self.sent, PATIENCE.as_secs_f64() * 1e3);
        all.sort_by(f64::total_cmp);
        all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

/// What a flood came to.
#[derive(Debug, Default)]
struct Sent {
    packets: f64,
    dropped: f64,
    seconds: f64,
}

/// What is beside the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// Nothing.
    Quiet,
    /// The same sender on the same core, into another cable whose end drops everything with a bare XDP_DROP: what a flood
    /// costs the machine before any gateway has a part in it.
    Elsewhere,
    /// SYNs from random sources to a port that policy closes.
    Random,
    /// SYNs from random sources to the gateway's own port.
    Syn,
}

const BESIDE: [Beside; 4] = [Beside::Quiet, Beside::Elsewhere, Beside::Random, Beside::Syn];
/// The floods that reach the gateway.
const FLOODS: [(Beside, &str); 2] = [(Beside::Random, "random sources"), (Beside::Syn, "SYN")];

/// Figures of one mode of the gateway.
#[derive(Debug, Default)]
struct Figures {
    seen: [Seen; BESIDE.len()],
    sent: [Sent; BESIDE.len()],
}

/// The mode with goals.
const ENFORCE: &str = "enforce";
const MODES: [&str; 3] = ["off", "observe", ENFORCE];

/// How to measure.
pub struct Plan<'a> {
    /// The daemon.
    pub gateway: &'a Path,
    /// The example that sends floods.
    pub sender: &'a Path,
    /// Turns of each mode.
    pub rounds: u32,
    /// Slices of each kind in a turn of enforcing, each of a second or as long as a flood takes: a 99th percentile of a few hundred
    /// requests is the machine's worst moment. The other modes have one slice of each.
    pub seconds: u32,
    /// Requests a second.
    pub rate: u32,
}

/// Measures and adds the rows.
///
/// # Errors
/// Without root, or when the scene cannot be set.
pub fn run(plan: &Plan<'_>, report: &mut Report, janitor: &mut Janitor) -> Result<bool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(cores >= 2, "live frames need two cores: one for the flood, one for the gateway and its client");
    let (ours, theirs) = (format!("0-{}", cores - 2), (cores - 1).to_string());
    pin(std::process::id(), &ours)?;
    let measured = measure(plan, &ours, &theirs, janitor);
    pin(std::process::id(), &format!("0-{}", cores - 1))?;
    let figures = measured?;
    let mut met = true;
    for (mode, figures) in MODES.iter().zip(&figures) {
        let of = |beside: Beside| (&figures.seen[beside as usize], &figures.sent[beside as usize]);
        let (quiet, elsewhere) = (of(Beside::Quiet).0, of(Beside::Elsewhere));
        for (flood, name) in FLOODS {
            let (seen, sent) = of(flood);
            if *mode == ENFORCE {
                for row in rows(name, quiet, elsewhere.0, seen) {
                    met &= row.met;
                    report.add(row);
                }
            }
            report.note(format!("live, {mode}, {name} flood: {}; client {}", rates(sent), told(seen)));
        }
        report.note(format!("live, {mode}, quiet: client {}", told(quiet)));
        report.note(format!(
            "live, {mode}, the flood into another cable's bare XDP_DROP: {:.2} Mpps sent; client {}",
            elsewhere.1.packets / elsewhere.1.seconds / 1e6,
            told(elsewhere.0)
        ));
    }
    report.note(format!(
        "live: {} requests a second, each on a connection of its own; gateway, origin and client on core {ours}, floods of \
         {PACKETS} packets at a time on core {theirs}; {} rounds of {} slices of a second of each kind, in turns (off and observe: one)",
        plan.rate, plan.rounds, plan.seconds
    ));
    Ok(met)
}

/// The goals of a flood: as many answers as in the quiet slices, and as fast; and as fast as beside a flood that is none of
/// the gateway's business.
fn rows(name: &str, quiet: &Seen, elsewhere: &Seen, seen: &Seen) -> [Row; 4] {
    let case = |what: &str| format!("live: {name} flood, {what}");
    let (answered, before) = (seen.success() * 100.0, quiet.success() * 100.0);
    [
        Row::at_least(&case("answered"), answered, "%", before, 0.9, "quiet"),
        Row::at_least(&case("requests a second"), seen.rate(), "req/s", quiet.rate(), 0.9, "quiet"),
        Row::at_most(&case("p99"), seen.p99(), "ms", quiet.p99(), 1.1, "quiet"),
        Row::at_most(&case("p99"), seen.p99(), "ms", elsewhere.p99(), 1.1, "flood elsewhere"),
    ]
}

fn rates(sent: &Sent) -> String {
    let mpps = |packets: f64| packets / sent.seconds.max(f64::MIN_POSITIVE) / 1e6;
    format!("{:.2} Mpps sent, {:.2} Mpps dropped", mpps(sent.packets), mpps(sent.dropped))
}

fn told(seen: &Seen) -> String {
    format!(
        "{:.0} req/s answered ({:.2}% of {}), p50 {:.2} ms, p99 {:.2} ms{}",
        seen.rate(),
        seen.success() * 100.0,
        seen.sent,
        seen.percentile(50),
        seen.p99(),
        seen.failed.iter().map(|(why, times)| format!(", {times} times {why:?}")).collect::<String>()
    )
}

fn measure(plan: &Plan<'_>, ours: &str, theirs: &str, janitor: &mut Janitor) -> Result<[Figures; 3]> {
    let mut all: [Figures; 3] = Default::default();
    let lab = scene()?;
    let nowhere = Netns::new()?;
    nowhere.cable(("sink", &["10.78.0.1/24"]), &lab.attacker, ("eth1", &["10.78.0.2/24"]))?;
    command(lab.attacker.command("ethtool").args(["-K", "eth1", "gro", "on"]))?;
    let sink = Sender::start(&nowhere, plan.sender, theirs, &["sink", "drop"])?;
    // What the gateway's program sends back arrives; the flood's own answers end there.
    let far_ends = [
        Sender::start(&lab.clean, plan.sender, ours, &["eth0", "pass"])?,
        Sender::start(&lab.attacker, plan.sender, theirs, &["eth0", "drop"])?,
    ];
    for process in far_ends.iter().chain([&sink]) {
        janitor.watch(process.id())?;
    }
    let link = text(lab.gateway.command("ip").args(["-o", "link", "show", Lab::ATTACKER.interface]))?;
    let mac = hardware_address(&link)?;
    let (to, count) = (Lab::ATTACKER.gateway().to_string(), PACKETS.to_string());
    let sender = |interface: &str, port: u16| {
        let port = port.to_string();
        Sender::start(&lab.attacker, plan.sender, theirs, &[interface, "syn", mac, &to, &port, &count])
    };
    // In the order of the floods in BESIDE.
    let mut senders =
        [sender("eth1", CLOSED)?, sender("eth0", CLOSED)?, sender("eth0", Settings::HTTP_PORT)?];
    for sender in &senders {
        janitor.watch(sender.id())?;
    }
    for round in 1..=plan.rounds {
        for (mode, figures) in MODES.iter().zip(&mut all) {
            eprintln!("live frames, round {round} of {}, {mode} ...", plan.rounds);
            let gateway = lab.start(&settings(&lab, plan.gateway, mode))?;
            let status = gateway.ask(&["status"])?;
            let id =
                status["pid"].as_u64().and_then(|id| u32::try_from(id).ok()).context("the gateway's pid")?;
            pin(id, ours)?;
            // Warm: the first requests open what later ones find.
            client(&lab.clean, plan.rate, &AtomicBool::new(false), 1.0, &mut Seen::default())?;
            for _ in 0..if *mode == ENFORCE { plan.seconds } else { 1 } {
                for beside in BESIDE {
                    let number = beside as usize;
                    let (seen, sent) = (&mut figures.seen[number], &mut figures.sent[number]);
                    let Some(sender) = number.checked_sub(1).and_then(|number| senders.get_mut(number))
                    else {
                        client(&lab.clean, plan.rate, &AtomicBool::new(false), SLICE.as_secs_f64(), seen)?;
                        continue;
                    };
                    let before = dropped(&gateway)?;
                    slice(&lab.clean, plan.rate, sender, seen, sent)?;
                    sent.dropped += (dropped(&gateway)? - before) as f64;
                }
            }
            gateway.stop()?;
        }
    }
    drop(senders);
    drop((sink, far_ends));
    Ok(all)
}

/// The client beside floods of one kind, for a second and as long as the last one takes.
fn slice(space: &Netns, rate: u32, sender: &mut Sender, seen: &mut Seen, sent: &mut Sent) -> Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| client(space, rate, &done, f64::MAX, seen));
        let started = Instant::now();
        let mut flooded = Ok(());
        while flooded.is_ok() && started.elapsed() < SLICE {
            flooded = sender.flood().map(|seconds| {
                sent.packets += f64::from(PACKETS);
                sent.seconds += seconds;
            });
        }
        done.store(true, Ordering::Relaxed);
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        flooded
    })
}

/// The usual scene, with a way back for answers to sources that do not exist, as on the internet.
fn scene() -> Result<Lab> {
    let lab = Lab::new()?;
    let attacker = Lab::ATTACKER;
    let route = ["route", "add", "default", "via", &attacker.client().to_string(), "dev", attacker.interface];
    command(lab.gateway.command("ip").args(route))?;
    // Its other end answers nobody.
    let link = text(lab.attacker.command("ip").args(["-o", "link", "show", "eth0"]))?;
    let mac = hardware_address(&link)?;
    let neighbour =
        ["neigh", "replace", &attacker.client().to_string(), "lladdr", mac, "dev", attacker.interface];
    command(lab.gateway.command("ip").args(neighbour).args(["nud", "permanent"]))?;
    // Frames that come from no stack are taken only where the driver polls.
    for interface in [CLEAN.interface, attacker.interface] {
        command(lab.gateway.command("ethtool").args(["-K", interface, "gro", "on"]))?;
    }
    command(lab.gateway.command("sysctl").args(["-qw", "net.ipv4.tcp_syncookies=2"]))?;
    Ok(lab)
}

/// The address in a line of `ip -o link`.
fn hardware_address(link: &str) -> Result<&str> {
    link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).context("a MAC address")
}

fn settings(lab: &Lab, gateway: &Path, mode: &str) -> Settings {
    let port = Settings::HTTP_PORT;
    lab.settings()
        .daemon(gateway)
        .with_kernel(&format!("mode = {mode:?}\nlimits = {{ packets = 50000, connections = 5000 }}"))
        .with_kernel(&format!(
            "ports = {{ default = \"closed\", open = {{ tcp = [{port}], udp = [], icmp = [8] }} }}"
        ))
        .with_kernel(&format!("flood = {{ connections = 20000, cookies = [{port}] }}"))
        .with("[log]\naccess = \"off\"")
}

fn dropped(gateway: &Gateway) -> Result<u64> {
    gateway.ask(&["xdp", "stats"])?["dropped"].as_u64().context("a count of drops")
}

fn pin(process: u32, cores: &str) -> Result<()> {
    command(Command::new("taskset").args(["-a", "-p", "-c", cores, &process.to_string()]))
}

/// Requests at a steady rate until `done`, or for so long; each on a new connection. One that is late does not hold the
/// next back longer than it takes itself.
fn client(space: &Netns, rate: u32, done: &AtomicBool, seconds: f64, seen: &mut Seen) -> Result<()> {
    let pause = Duration::from_secs(1) / rate.max(1);
    let (latencies, failed, sent, took) = space.inside(|| {
        let (mut latencies, mut failed, mut sent) = (Vec::new(), Vec::new(), 0);
        let started = Instant::now();
        let mut next = started;
        while !done.load(Ordering::Relaxed) && started.elapsed().as_secs_f64() < seconds {
            let begun = Instant::now();
            sent += 1;
            match request(CLEAN.http()) {
                Ok(()) => latencies.push(begun.elapsed().as_secs_f64() * 1e3),
                Err(error) => failed.push(format!("{error:#}")),
            }
            next = (next + pause).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok((latencies, failed, sent, started.elapsed().as_secs_f64()))
    })?;
    failed.into_iter().for_each(|why| *seen.failed.entry(why).or_default() += 1);
    seen.latencies.extend(latencies);
    seen.sent += sent;
    seen.seconds += took;
    Ok(())
}

fn request(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(
        b"GET /products?id=17 HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n\
          connection: close\r\n\r\n",
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no answer")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "another answer");
    Ok(())
}
