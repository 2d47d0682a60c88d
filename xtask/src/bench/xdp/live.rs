//! Live frames over veth: a good client beside a flood, with the gateway off, observing and enforcing.
//!
//! The gateway, its origin and the client run on every core but the last; the flood's sender, and so the receiving
//! softirq of its cable, on the last alone. The client opens a connection for each request at a rate that leaves most of
//! its core idle: what is measured is what the flood does to it, not how much it can do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Gateway, Lab, Netns, Settings, run as command, text};

use super::super::report::{Report, Row};
use super::janitor::Janitor;

/// Packets of one flood.
const PACKETS: u32 = 1_000_000;
/// The port that the flood of random sources aims at: closed by policy, which refuses new connections.
const CLOSED: u16 = 9;
/// Longest that a request may take to count as answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the client saw, over all rounds.
#[derive(Debug, Default)]
struct Seen {
    /// Of the requests that were answered, in milliseconds.
    latencies: Vec<f64>,
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

    /// A request that was not answered took as long as it could.
    fn p99(&self) -> f64 {
        let mut all = self.latencies.clone();
        all.resize(self.sent, PATIENCE.as_secs_f64() * 1e3);
        all.sort_by(f64::total_cmp);
        all.get((all.len() * 99 / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

/// What a flood came to.
#[derive(Debug, Default)]
struct Sent {
    packets: f64,
    dropped: f64,
    seconds: f64,
}

/// Figures of one mode of the gateway.
#[derive(Debug, Default)]
struct Figures {
    quiet: Seen,
    beside: [Seen; 2],
    sent: [Sent; 2],
}

/// The two floods: flags, port, name.
const FLOODS: [(&str, u16, &str); 2] =
    [("syn", CLOSED, "random sources"), ("syn", Settings::HTTP_PORT, "SYN")];
const MODES: [&str; 3] = ["off", "observe", "enforce"];

/// How to measure.
pub struct Plan<'a> {
    /// The daemon.
    pub gateway: &'a Path,
    /// The example that sends floods.
    pub sender: &'a Path,
    /// Turns of each mode.
    pub rounds: u32,
    /// Length of the quiet run, and least length of a run beside a flood.
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
    for (number, (_, _, name)) in FLOODS.iter().enumerate() {
        for (mode, figures) in MODES.iter().zip(&figures) {
            let (quiet, beside, sent) = (&figures.quiet, &figures.beside[number], &figures.sent[number]);
            if *mode == "enforce" {
                let rows = [
                    Row::at_least(
                        &format!("live: {name} flood, answered"),
                        beside.success() * 100.0,
                        "%",
                        quiet.success() * 100.0,
                        0.9,
                        "quiet run",
                    ),
                    Row::at_most(
                        &format!("live: {name} flood, p99"),
                        beside.p99(),
                        "ms",
                        quiet.p99(),
                        1.1,
                        "quiet run",
                    ),
                ];
                for row in rows {
                    met &= row.met;
                    report.add(row);
                }
            }
            report.note(format!(
                "live, {mode}, {name} flood: {:.2} Mpps sent, {:.2} Mpps dropped; client {:.0} req/s answered ({:.2}% of {}), \
                 p99 {:.2} ms; quiet {:.0} req/s ({:.2}%), p99 {:.2} ms",
                sent.packets / sent.seconds / 1e6,
                sent.dropped / sent.seconds / 1e6,
                beside.rate(),
                beside.success() * 100.0,
                beside.sent,
                beside.p99(),
                quiet.rate(),
                quiet.success() * 100.0,
                quiet.p99()
            ));
        }
    }
    report.note(format!(
        "live: {} requests a second, each on a connection of its own; gateway, origin and client on core {ours}, flood of \
         {PACKETS} packets at a time on core {theirs}; {} rounds",
        plan.rate, plan.rounds
    ));
    Ok(met)
}

fn measure(plan: &Plan<'_>, ours: &str, theirs: &str, janitor: &mut Janitor) -> Result<[Figures; 3]> {
    let mut all: [Figures; 3] = Default::default();
    let lab = scene()?;
    let link = text(lab.gateway.command("ip").args(["-o", "link", "show", Lab::ATTACKER.interface]))?;
    let mac =
        link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).context("a MAC address")?;
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
            let quiet = f64::from(plan.seconds);
            client(&lab.clean, plan.rate, &AtomicBool::new(false), quiet, &mut figures.quiet)?;
            for (number, (kind, port, _)) in FLOODS.iter().enumerate() {
                let mut sender = Sender::start(&lab.attacker, plan.sender, theirs, kind, mac, *port)?;
                janitor.watch(sender.child.id())?;
                let before = dropped(&gateway)?;
                let done = AtomicBool::new(false);
                let (seen, sent) = (&mut figures.beside[number], &mut figures.sent[number]);
                std::thread::scope(|scope| {
                    let client = scope.spawn(|| client(&lab.clean, plan.rate, &done, f64::MAX, seen));
                    let started = Instant::now();
                    let mut flooded = Ok(());
                    while flooded.is_ok() && started.elapsed() < Duration::from_secs(plan.seconds.into()) {
                        flooded = sender.flood().map(|seconds| {
                            sent.packets += f64::from(PACKETS);
                            sent.seconds += seconds;
                        });
                    }
                    done.store(true, Ordering::Relaxed);
                    client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
                    flooded
                })?;
                sent.dropped += (dropped(&gateway)? - before) as f64;
            }
            gateway.stop()?;
        }
    }
    Ok(all)
}

/// The usual scene, with a way back for answers to sources that do not exist, as on the internet.
fn scene() -> Result<Lab> {
    let lab = Lab::new()?;
    let attacker = Lab::ATTACKER;
    let route = ["route", "add", "default", "via", &attacker.client().to_string(), "dev", attacker.interface];
    command(lab.gateway.command("ip").args(route))?;
    // A veth takes frames that come from no stack only where its driver polls.
    for space in [&lab.clean, &lab.attacker] {
        command(space.command("ethtool").args(["-K", "eth0", "gro", "on"]))?;
    }
    for interface in [CLEAN.interface, attacker.interface] {
        command(lab.gateway.command("ethtool").args(["-K", interface, "gro", "on"]))?;
    }
    command(lab.gateway.command("sysctl").args(["-qw", "net.ipv4.tcp_syncookies=2"]))?;
    Ok(lab)
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
    let (latencies, sent, took) = space.inside(|| {
        let (mut latencies, mut sent) = (Vec::new(), 0);
        let started = Instant::now();
        let mut next = started;
        while !done.load(Ordering::Relaxed) && started.elapsed().as_secs_f64() < seconds {
            let begun = Instant::now();
            sent += 1;
            if request(CLEAN.http()).is_ok() {
                latencies.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            next = (next + pause).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok((latencies, sent, started.elapsed().as_secs_f64()))
    })?;
    seen.latencies.extend(latencies);
    seen.sent += sent;
    seen.seconds += took;
    Ok(())
}

fn request(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(
        b"GET /products?id=17 HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n\
          connection: close\r\n\r\n",
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "another answer");
    Ok(())
}

/// The sender of floods, a process on its own core.
struct Sender {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Sender {
    fn start(space: &Netns, program: &Path, core: &str, kind: &str, mac: &str, port: u16) -> Result<Self> {
        let mut child = space
            .command("taskset")
            .args(["-c", core])
            .arg(program)
            .args(["eth0", kind, mac, &Lab::ATTACKER.gateway().to_string()])
            .args([port.to_string(), PACKETS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the sender of floods")?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("its output")?);
        let mut sender = Self { child, orders, answers };
        ensure!(sender.line()? == "ready", "the sender of floods did not start");
        Ok(sender)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Sends one flood; the seconds that it took.
    fn flood(&mut self) -> Result<f64> {
        self.orders.as_mut().context("its input")?.write_all(b"\n")?;
        self.line()?.parse().context("the sender of floods ended")
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Without input it removes its pins and ends.
        drop(self.orders.take());
        let _ended = self.child.wait();
    }
}
