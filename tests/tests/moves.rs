//! What moves while traffic flows: the daemon, by a hand-over with the kernel side attached; a server, by its name.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Connection, Echo, Lab, Origin, Settings, get, wait_until};

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an attempt to connect waits before it counts as dropped.
const SHORT: Duration = Duration::from_millis(700);

/// Sends from the attacker to `echo` until told to stop; how many datagrams went out and how many came back.
fn knock(lab: &Lab, echo: &Echo, is_over: &AtomicBool) -> Result<(u64, u64)> {
    let to = echo.address();
    lab.attacker.inside(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let (mut sent, mut back) = (0, 0);
        while !is_over.load(Ordering::Relaxed) {
            socket.send_to(b"?", to)?;
            sent += 1;
            back += u64::from(socket.recv(&mut [0; 8]).is_ok());
        }
        Ok((sent, back))
    })
}

#[test]
fn a_hand_over_keeps_the_kernel_side() -> Result<()> {
    const HAND_OVERS: usize = 3;
    let lab = Lab::new()?;
    let manager = lab.folder.path().join("notify.sock");
    let ear = UnixDatagram::bind(&manager)?;
    ear.set_read_timeout(Some(PATIENCE))?;
    let settings = lab
        .settings()
        .with(&format!("[bans]\ndatabase = {:?}", lab.folder.path().join("bans.redb")))
        .notify(&manager);
    let mut gateway = lab.start(&settings)?;
    let attacker = Lab::ATTACKER.client().to_string();
    gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
    let echo = Echo::start(&lab.gateway, (Lab::ATTACKER.gateway(), 0).into())?;
    let is_dropped = || Connection::open(&lab.attacker, Lab::ATTACKER.http(), SHORT).is_err();
    wait_until("the ban", PATIENCE, || is_dropped().then_some(()))?;

    // The attacker knocks and the clean client asks all the while: no datagram may come back, no request may fail.
    let (is_over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let told = std::thread::scope(|scope| {
        let knocks = scope.spawn(|| knock(&lab, &echo, &is_over));
        let requests = scope.spawn(|| -> Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                let answer = get(&lab.clean, CLEAN.http(), "/")?;
                ensure!(answer.status == 200, "the clean client got {}", answer.status);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let handed = (|| -> Result<Vec<u32>> {
            let mut pids = Vec::new();
            for _ in 0..HAND_OVERS {
                let before = asked.load(Ordering::Relaxed);
                wait_until("requests", PATIENCE, || {
                    (asked.load(Ordering::Relaxed) > before + 5).then_some(())
                })?;
                let dropped = gateway.dropped(&lab.gateway)?;
                gateway.hand_over(&lab.gateway)?;
                pids.push(gateway.pid());
                wait_until("drops", PATIENCE, || {
                    gateway.dropped(&lab.gateway).is_ok_and(|now| now > dropped).then_some(())
                })?;
                let status = gateway.ask(&["xdp", "status"])?;
                ensure!(status["interfaces"].as_array().is_some_and(|all| all.len() == 2), "{status}");
                ensure!(
                    gateway.ask(&["ban", "list"])?.to_string().contains(&attacker),
                    "the ban is not listed"
                );
            }
            Ok(pids)
        })();
        is_over.store(true, Ordering::Relaxed);
        let (sent, back) = knocks.join().expect("no panic")?;
        requests.join().expect("no panic")?;
        ensure!(sent > 0 && back == 0, "{back} of {sent} datagrams of a banned address came back");
        println!(
            "numbers: {HAND_OVERS} hand-overs: {sent} datagrams dropped, {} requests served",
            asked.load(Ordering::Relaxed)
        );
        handed
    });

    // The service manager was told who is the service now, each time.
    let mut mains = Vec::new();
    while mains.len() < HAND_OVERS {
        let mut buf = [0; 4096];
        let n = ear.recv(&mut buf).context("the service manager was not told of a new process")?;
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        mains.extend(text.lines().filter_map(|l| l.strip_prefix("MAINPID=")?.parse::<u32>().ok()));
    }
    ensure!(mains == told?, "{mains:?}");

    // The last one has the tables in hand: what it takes back is let through, what it bans is dropped.
    gateway.ask(&["ban", "remove", &attacker])?;
    wait_until("the release", PATIENCE, || (!is_dropped()).then_some(()))?;
    gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
    wait_until("the new ban", PATIENCE, || is_dropped().then_some(()))
}

#[test]
fn traffic_follows_a_name() -> Result<()> {
    let lab = Lab::new()?;
    let hosts = lab.folder.write("hosts", "127.0.0.1 app.test\n")?;
    let here = Origin::start(&lab.gateway)?;
    let port = here.address().port();
    let there = lab.gateway.inside(|| Origin::on(([127, 0, 0, 2], port).into()))?;
    let settings = Settings::new(lab.folder.path(), lab.origin.address()).hosts(&hosts).with(&format!(
        "[[upstreams]]\nname = \"app\"\nservers = [\"app.test:{port}\"]\nresolve_interval = \"1s\"\n\
         [[routes]]\nupstream = \"app\"\n"
    ));
    let gateway = lab.start(&settings)?;
    let mut client = Connection::open(&lab.clean, CLEAN.http(), PATIENCE)?;
    let mut ask = || -> Result<()> {
        let answer = client.get("/")?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(())
    };
    for _ in 0..10 {
        ask()?;
    }
    ensure!((here.served(), there.served()) == (10, 0), "{} here, {} there", here.served(), there.served());

    // The file behind the mount is written in place, as a name server's answer changes.
    std::fs::write(&hosts, "127.0.0.2 app.test\n")?;
    wait_until("the move", PATIENCE, || {
        let asked = ask();
        (asked.is_err() || there.served() > 0).then_some(asked)
    })??;
    let left = here.served();
    for _ in 0..20 {
        ask()?;
    }
    ensure!(here.served() == left, "{} more requests at the old address", here.served() - left);
    let changes = gateway.metric(&lab.gateway, "gateway_upstream_address_changes_total")?;
    ensure!((changes - 1.0).abs() < 0.1, "{changes} changes");

    // A name that is gone changes nothing.
    std::fs::write(&hosts, "127.0.0.1 localhost\n")?;
    wait_until("a failed lookup", PATIENCE, || {
        let failed = gateway.metric(&lab.gateway, "gateway_upstream_failed_lookups_total").ok()?;
        (failed > 0.5).then_some(())
    })?;
    ask()?;
    ensure!(here.served() == left, "back at the old address");
    Ok(())
}
