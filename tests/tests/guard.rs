//! From an attack to its packets dying in the kernel, and what holds when the daemon does not.
//!
//! These also run on an older kernel, in the virtual machine of `cargo xtask vm-test`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gateway_tests::{CLEAN, Connection, Echo, Gateway, Lab, Probe, Response, Settings, get, wait_until};

/// An injection that the built-in rules refuse.
const ATTACK: &str = "/products?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20-";
/// Attacks after which the attacker must be banned.
const MOST_ATTACKS: usize = 20;
/// How long an attempt to connect waits before it counts as dropped.
const SHORT: Duration = Duration::from_millis(700);
/// Slack for what a kernel does within microseconds, on a machine that may be emulated.
const SOON: Duration = Duration::from_secs(5);

/// The attack, as told by the attacker's own clock.
struct Story {
    attacks: usize,
    /// Sending of the last attack that was answered.
    decided: Instant,
}

/// Attacks, each over its own connection, until nothing answers any more.
fn attack_until_dropped(lab: &Lab, to: SocketAddr) -> Result<Story> {
    let mut decided = None;
    for attacks in 1..=MOST_ATTACKS {
        let sent = Instant::now();
        let answer = Connection::open(&lab.attacker, to, SHORT).and_then(|mut connection| {
            connection.patience(SHORT)?;
            connection.get(ATTACK)
        });
        match (answer, decided) {
            (Ok(Response { status: 403, .. }), _) => decided = Some(sent),
            (Ok(answer), _) => bail!("attack {attacks} was answered with {}: {}", answer.status, answer.body),
            (Err(_), Some(decided)) => return Ok(Story { attacks: attacks - 1, decided }),
            (Err(error), None) => return Err(error.context("not even the first attack was answered")),
        }
        // The ban takes effect within milliseconds; a person's pace makes sure that it is this attack's doing.
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the attacker was still served after {MOST_ATTACKS} attacks")
}

fn is_dropped(lab: &Lab, to: SocketAddr) -> bool {
    Connection::open(&lab.attacker, to, SHORT).is_err()
}

fn clean_is_served(lab: &Lab) -> Result<Duration> {
    let start = Instant::now();
    let answer = get(&lab.clean, CLEAN.http(), "/products?id=17")?;
    ensure!(answer.status == 200, "the clean client got {}: {}", answer.status, answer.body);
    Ok(start.elapsed())
}

fn bans(gateway: &Gateway) -> Result<String> {
    Ok(gateway.ask(&["ban", "list"])?.to_string())
}

#[test]
fn an_attacker_dies_in_the_kernel_and_a_clean_client_goes_on() -> Result<()> {
    // An IPv6 client is banned with its /64.
    let rows: [(&str, IpAddr, &str); 2] = [
        ("IPv4", Lab::ATTACKER.gateway(), "10.77.2.2"),
        ("IPv6", Lab::ATTACKER.gateway_v6(), "fd77:2:0:2::/64"),
    ];
    for (name, to, attacker) in rows {
        let lab = Lab::new()?;
        let gateway = lab.start(&lab.settings())?;
        clean_is_served(&lab)?;
        let echo = Echo::start(&lab.gateway, SocketAddr::new(to, 0))?;
        let before = gateway.dropped(&lab.gateway)?;
        let probe = Probe::start(&lab.attacker, echo.address())?;

        let http = SocketAddr::new(to, Settings::HTTP_PORT);
        let story = attack_until_dropped(&lab, http)?;
        let during = clean_is_served(&lab)?;
        ensure!(is_dropped(&lab, http), "a banned attacker could connect");
        let (first_lost, lost) =
            probe.finish()?.context("the probe's packets all came back: nothing was dropped")?;
        ensure!(bans(&gateway)?.contains(attacker), "the list of bans has no {attacker}");
        let counted = gateway.dropped(&lab.gateway)? - before;

        // The probe's clock says when; the kernel's counter and the probe must agree on how many, give or take the
        // attacker's own connection attempts and neighbour discovery.
        ensure!(counted as usize >= lost, "the probe lost {lost} packets and the kernel counted {counted}");
        ensure!(first_lost > story.decided, "packets were dropped before the deciding request was sent");
        let delay = first_lost - story.decided;
        ensure!(delay < SOON, "{delay:?} from the deciding request to the first dropped packet");
        println!(
            "numbers: {name}: {} attacks refused; first packet dropped {:.2} ms after the deciding request was sent; \
             {counted} packets dropped; a clean request beside it took {:.2} ms",
            story.attacks,
            delay.as_secs_f64() * 1e3,
            during.as_secs_f64() * 1e3
        );
    }
    Ok(())
}

#[test]
fn a_ban_outlives_the_daemon() -> Result<()> {
    for sudden in [false, true] {
        let lab = Lab::new()?;
        let settings =
            lab.settings().with(&format!("[bans]\ndatabase = {:?}", lab.folder.path().join("bans.redb")));
        let gateway = lab.start(&settings)?;
        let attacker = Lab::ATTACKER.client().to_string();
        gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
        let echo = Echo::start(&lab.gateway, SocketAddr::new(Lab::ATTACKER.gateway(), 0))?;
        wait_until("the ban", SOON, || is_dropped(&lab, Lab::ATTACKER.http()).then_some(()))?;

        if sudden {
            gateway.kill()?;
        } else {
            let status = gateway.stop()?;
            ensure!(status.success(), "after SIGTERM the daemon ended with {status}");
        }
        // Nobody listens on the gateway now, but the echo does: only the kernel can keep it from answering.
        ensure!(!echoes(&lab, &echo)?, "with the daemon gone the kernel let a banned address through");

        let gateway = lab.start(&settings)?;
        ensure!(bans(&gateway)?.contains(&attacker), "after a restart the list of bans has no {attacker}");
        ensure!(is_dropped(&lab, Lab::ATTACKER.http()), "after a restart a banned attacker could connect");
        clean_is_served(&lab)?;

        gateway.ask(&["ban", "remove", &attacker])?;
        wait_until("the release", SOON, || (!is_dropped(&lab, Lab::ATTACKER.http())).then_some(()))?;
        let answer = get(&lab.attacker, Lab::ATTACKER.http(), "/")?;
        ensure!(answer.status == 200, "a released address got {}", answer.status);
    }
    Ok(())
}

/// Whether the attacker's packets come back from the echo.
fn echoes(lab: &Lab, echo: &Echo) -> Result<bool> {
    let to = echo.address();
    lab.attacker.inside(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        for _ in 0..3 {
            socket.send_to(b"?", to)?;
            if socket.recv(&mut [0; 8]).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

#[test]
fn an_allowlisted_address_is_refused_but_never_banned() -> Result<()> {
    let lab = Lab::new()?;
    let allow = format!("allow = [\"{}/32\"]", Lab::ATTACKER.client());
    let gateway = lab.start(&lab.settings().with_kernel(&allow))?;
    for number in 1..=MOST_ATTACKS {
        let answer = get(&lab.attacker, Lab::ATTACKER.http(), ATTACK)?;
        ensure!(answer.status == 403, "attack {number} was answered with {}", answer.status);
    }
    ensure!(
        gateway.ask(&["ban", "add", &Lab::ATTACKER.client().to_string()]).is_err(),
        "an allowlisted address was banned"
    );
    ensure!(!is_dropped(&lab, Lab::ATTACKER.http()), "an allowlisted address was dropped");
    Ok(())
}

#[test]
fn with_bans_off_nobody_is_banned() -> Result<()> {
    let lab = Lab::new()?;
    let gateway = lab.start(&lab.settings().with("[bans]\nenabled = false"))?;
    for number in 1..=MOST_ATTACKS {
        let answer = get(&lab.attacker, Lab::ATTACKER.http(), ATTACK)?;
        ensure!(answer.status == 403, "attack {number} was answered with {}", answer.status);
    }
    ensure!(!is_dropped(&lab, Lab::ATTACKER.http()), "the attacker was dropped");
    let list = gateway.ask(&["ban", "list"])?;
    ensure!(list["enabled"] == false && list["decisions"] == serde_json::json!([]), "{list}");
    let said = gateway.say(&["ban", "list"])?;
    ensure!(said.contains("bans are off ([bans] enabled = false)"), "{said}");
    let top = gateway.ask(&["xdp", "status"])?;
    ensure!(top["tables"][0]["used"] == 0, "{top}");
    // An operator's word holds all the same.
    gateway.ask(&["ban", "add", &Lab::ATTACKER.client().to_string(), "--for", "10m"])?;
    wait_until("the operator's ban", SOON, || is_dropped(&lab, Lab::ATTACKER.http()).then_some(()))
}

#[test]
fn nobody_locks_the_operators_out() -> Result<()> {
    let lab = Lab::new()?;
    let (clean, proxy) = (CLEAN.client(), Lab::ATTACKER.client());
    let settings = lab
        .settings()
        .with(&format!("[client]\ntrusted_proxies = [\"{proxy}\"]"))
        .with("[bans]\nmanagement = [\"192.0.2.0/24\"]");
    let gateway = lab.start(&settings)?;
    let own = Lab::ATTACKER.gateway().to_string();
    let around_own = "10.77.2.0/25";
    let proxy = proxy.to_string();
    for (what, scope, said) in [
        ("a management source", "192.0.2.7", "192.0.2.0/24"),
        ("a network around it", "192.0.0.0/20", "192.0.2.0/24"),
        ("the gateway's own address", own.as_str(), own.as_str()),
        ("a network around it", around_own, "10.77.2."),
        ("its own IPv6 address", "fd77:2:0:1::1", "fd77:2:0:1::1"),
        ("a trusted proxy", proxy.as_str(), proxy.as_str()),
        ("everything", "0.0.0.0/0", "0.0.0.0/0"),
        ("all of IPv6", "::/0", "::/0"),
    ] {
        let refused =
            gateway.ask(&["ban", "add", scope]).err().with_context(|| format!("{what} was banned"))?;
        let sentence = refused.to_string();
        ensure!(sentence.contains(said), "{what}: {sentence}");
        println!("refused: {what}: {}", sentence.trim());
    }
    let status = gateway.ask(&["xdp", "status"])?;
    ensure!(status["tables"][0]["used"] == 0 && status["tables"][1]["used"] == 0, "{status}");
    // Whoever is none of these is banned on the operator's word.
    gateway.ask(&["ban", "add", &clean.to_string()])?;
    Ok(())
}

#[test]
fn limits_fall_back_to_observing_when_the_daemon_is_dead() -> Result<()> {
    const SENT: usize = 100;
    let lab = Lab::new()?;
    let attacker = Lab::ATTACKER.client();
    let limits = format!(
        "limits = {{ overrides = [{{ networks = [\"{attacker}/32\"], packets = 5, packets_burst = 5 }}] }}"
    );
    // Who stays over a limit is banned in the end, and bans go on without the daemon: here is asked about limits alone.
    let settings = lab.settings().with_kernel(&limits).with("[bans]\ndefault_scenarios = false");
    let gateway = lab.start(&settings)?;
    let echo = Echo::start(&lab.gateway, SocketAddr::new(Lab::ATTACKER.gateway(), 0))?;
    let to = echo.address();
    let came_back = || -> Result<usize> {
        lab.attacker.inside(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            for _ in 0..SENT {
                socket.send_to(b"?", to)?;
            }
            Ok((0..SENT).take_while(|_| socket.recv(&mut [0; 8]).is_ok()).count())
        })
    };
    // The limiter is warm after the first.
    came_back()?;
    let limited = came_back()?;
    ensure!(limited < SENT / 2, "{limited} of {SENT} datagrams passed a limit of 5 a second");
    gateway.kill()?;
    wait_until("the heartbeat's lapse", Duration::from_secs(30), || {
        came_back().ok().filter(|count| *count == SENT).map(|_| ())
    })
}
