//! `cargo xtask demo`: the whole story in network namespaces, told as it happens.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gateway_tests::{CLEAN, Connection, Echo, Gateway, Lab, Probe, curl_tls, get};

use crate::paths::Paths;
use crate::{build, process, setup, ui};

/// An injection that the built-in rules refuse.
const ATTACK: &str = "/products?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20-";
/// Attacks after which the attacker must be banned.
const MOST_ATTACKS: usize = 20;
/// How long an attempt to connect waits before it counts as dropped.
const SHORT: Duration = Duration::from_millis(500);
/// Requests of the clean client for each figure of its latency.
const REQUESTS: usize = 200;

/// Runs the verb.
pub fn run(paths: &Paths) -> Result<()> {
    if !process::is_root() {
        bail!("the demo makes network namespaces and loads XDP programs, which needs root");
    }
    setup::for_tests(paths)?;
    build::ebpf(paths)?;
    let daemon = build::daemon(paths, "release")?;

    let start = Instant::now();
    say(
        "Three namespaces: a gateway, a clean client (10.77.1.2) and an attacker (10.77.2.2), each on a cable to it.",
    );
    let lab = Lab::new()?;
    let database = lab.folder.path().join("bans.redb");
    let settings = lab
        .settings()
        .daemon(&daemon)
        .with(&format!("[bans]\ndatabase = {:?}", database.display().to_string()));
    let gateway = lab.start(&settings)?;
    told(&format!("gateway ready in {} ms; XDP attached to both cables", gateway.started_in.as_millis()));

    served(&lab)?;
    let quiet = latency(&lab)?;
    told(&format!("clean client, {REQUESTS} requests on one connection: {quiet}"));

    say("An attack: SQL injection in a query argument.");
    let echo = Echo::start(&lab.gateway, SocketAddr::new(Lab::ATTACKER.gateway(), 0))?;
    let probe = Probe::start(&lab.attacker, echo.address())?;
    let (attacks, decided) = attack(&lab)?;
    told(&format!("{attacks} attacks refused with 403, then nothing answers the attacker any more"));
    let (first, lost) = probe.finish()?.context("the attacker's packets still come through")?;
    told(&format!(
        "its first packet died in the kernel {:.2} ms after the deciding request was sent; {lost} since",
        (first - decided).as_secs_f64() * 1e3
    ));
    banned(&gateway)?;

    say("The attacker goes on sending for two seconds; the clean client works beside it.");
    let before = gateway.dropped(&lab.gateway)?;
    let flood = Probe::start(&lab.attacker, echo.address())?;
    let flooded = Instant::now();
    let beside = latency(&lab)?;
    std::thread::sleep(Duration::from_secs(2).saturating_sub(flooded.elapsed()));
    drop(flood);
    told(&format!("{} packets dropped in the kernel", gateway.dropped(&lab.gateway)? - before));
    told(&format!("clean client meanwhile: {beside} (before: {quiet})"));

    say("The daemon is killed with SIGKILL, and started again.");
    gateway.kill()?;
    ensure!(is_dropped(&lab), "with the daemon gone the kernel let the attacker through");
    told("with no daemon running the kernel still drops the attacker");
    let gateway = lab.start(&settings)?;
    told(&format!("ready again in {} ms", gateway.started_in.as_millis()));
    banned(&gateway)?;
    ensure!(is_dropped(&lab), "after the restart the attacker could connect");
    served(&lab)?;
    say(&format!("That is the story, told in {}.", ui::seconds(start.elapsed())));
    Ok(())
}

fn served(lab: &Lab) -> Result<()> {
    let answer = get(&lab.clean, CLEAN.http(), "/hello")?;
    ensure!(answer.status == 200, "the clean client got {}", answer.status);
    let tls = curl_tls(&lab.clean, CLEAN.https(), "/hello", &["--http2"])?;
    told(&format!("clean client: {} over HTTP/1.1, {tls} over TLS (status, HTTP version)", answer.status));
    Ok(())
}

/// The middle and the 99th of 100 times of requests on one connection.
fn latency(lab: &Lab) -> Result<String> {
    let mut connection = Connection::open(&lab.clean, CLEAN.http(), Duration::from_secs(2))?;
    let mut times = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        let start = Instant::now();
        let answer = connection.get(&format!("/item/{number}"))?;
        ensure!(answer.status == 200, "the clean client got {}", answer.status);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    Ok(format!("median {:.2} ms, p99 {:.2} ms", at(50), at(99)))
}

/// Attacks until nothing answers: how many were refused, and when the last of them was sent.
fn attack(lab: &Lab) -> Result<(usize, Instant)> {
    let mut decided = Instant::now();
    for attacks in 0..MOST_ATTACKS {
        let sent = Instant::now();
        let answer =
            Connection::open(&lab.attacker, Lab::ATTACKER.http(), SHORT).and_then(|mut connection| {
                connection.patience(SHORT)?;
                connection.get(ATTACK)
            });
        match answer {
            Ok(answer) => {
                ensure!(answer.status == 403, "an attack was answered with {}", answer.status);
                decided = sent;
            }
            Err(error) if attacks == 0 => return Err(error),
            Err(_) => return Ok((attacks, decided)),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the attacker was still served after {MOST_ATTACKS} attacks")
}

fn is_dropped(lab: &Lab) -> bool {
    Connection::open(&lab.attacker, Lab::ATTACKER.http(), SHORT).is_err()
}

fn banned(gateway: &Gateway) -> Result<()> {
    let attacker = Lab::ATTACKER.client().to_string();
    let list = gateway.ask(&["ban", "list"])?;
    ensure!(list.to_string().contains(&attacker), "the list of bans has no {attacker}: {list}");
    told(&format!("`gateway ban list` has {attacker}"));
    Ok(())
}

fn say(text: &str) {
    println!("\n{}", ui::paint("1", text));
}

fn told(text: &str) {
    println!("  {text}");
}
