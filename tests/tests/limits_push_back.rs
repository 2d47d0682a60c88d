//! A client that goes on past a limit's refusals is dropped in the kernel until its quota is back; one behind a trusted
//! proxy never is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Connection, Gateway, Lab, Netns, Settings, get, wait_until};

/// How long an attempt to connect waits before it counts as dropped.
const SHORT: Duration = Duration::from_millis(700);
/// Slack for a busy machine.
const SOON: Duration = Duration::from_secs(5);
/// Time until the quota is back.
const WINDOW: Duration = Duration::from_secs(12);

const LIMIT: &str =
    "[[limits]]\nname = \"address\"\nquota = 4\nwindow = \"12s\"\noffence_after = 5\nheaders = \"both\"";

fn is_dropped(lab: &Lab) -> bool {
    Connection::open(&lab.attacker, Lab::ATTACKER.http(), SHORT).is_err()
}

fn bans(gateway: &Gateway) -> Result<String> {
    Ok(gateway.ask(&["ban", "list"])?.to_string())
}

#[test]
fn who_goes_on_is_dropped_until_its_quota_is_back() -> Result<()> {
    let lab = Lab::new()?;
    let gateway = lab.start(&lab.settings().with(LIMIT))?;
    let attacker = Lab::ATTACKER.client().to_string();
    let first = Instant::now();
    for n in 0..4 {
        let answer = get(&lab.attacker, Lab::ATTACKER.http(), "/")?;
        ensure!(answer.status == 200, "request {n} got {}", answer.status);
        let left = answer.header("ratelimit").context("an allowed answer tells how the limit stands")?;
        ensure!(left.starts_with(&format!("\"address\";r={}", 3 - n)), "request {n}: {left}");
    }
    let refused = get(&lab.attacker, Lab::ATTACKER.http(), "/")?;
    ensure!(refused.status == 429, "over the limit: {}", refused.status);
    ensure!(refused.body.contains("address") || refused.header("ratelimit").is_some(), "{}", refused.body);
    let after: Vec<_> = refused.headers.iter().filter(|(name, _)| name == "retry-after").collect();
    ensure!(after.len() == 1, "one Retry-After: {after:?}");
    ensure!(refused.header("x-ratelimit-remaining") == Some("0"), "{:?}", refused.headers);

    // It does not listen: the fifth refusal is an offence.
    let dropped = wait_until("the kernel's drop", SOON, || {
        let answer = Connection::open(&lab.attacker, Lab::ATTACKER.http(), SHORT)
            .and_then(|mut connection| connection.get("/"));
        answer.is_err().then(Instant::now)
    })?;
    ensure!(dropped - first < WINDOW, "it was dropped only after its quota was back");
    let list = bans(&gateway)?;
    ensure!(list.contains(&attacker) && list.contains("limit address"), "{list}");
    ensure!(list.contains("kernel-ban"), "{list}");
    ensure!(get(&lab.clean, CLEAN.http(), "/")?.status == 200, "the clean client is served");

    // The quota comes back, and with it the client.
    wait_until("the release", WINDOW + SOON * 2, || {
        get(&lab.attacker, Lab::ATTACKER.http(), "/").is_ok_and(|a| a.status == 200).then_some(())
    })?;
    ensure!(!bans(&gateway)?.contains(&attacker), "the decision is over");
    println!(
        "numbers: dropped {:.2} s after its first request, served again after {:.2} s",
        (dropped - first).as_secs_f64(),
        first.elapsed().as_secs_f64()
    );
    Ok(())
}

#[test]
fn a_client_behind_a_trusted_proxy_is_never_dropped() -> Result<()> {
    let lab = Lab::new()?;
    let trust = format!("[client]\ntrusted_proxies = [\"{}/32\"]\n{LIMIT}", Lab::ATTACKER.client());
    let gateway = lab.start(&lab.settings().with(&trust))?;
    let mut connection = Connection::open(&lab.attacker, Lab::ATTACKER.http(), SOON)?;
    let mut ask = |client: &str| -> Result<u16> {
        let head = format!(
            "GET / HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\nx-forwarded-for: {client}\r\n\r\n"
        );
        connection.send(head.as_bytes())?;
        Ok(connection.receive()?.status)
    };
    let mut passed = 0;
    for _ in 0..60 {
        let status = ask("203.0.113.9")?;
        ensure!(status == 200 || status == 429, "{status}");
        passed += u32::from(status == 200);
    }
    ensure!(passed == 4, "{passed} passed of a quota of 4");
    ensure!(ask("203.0.113.10")? == 200, "another client of the same proxy is served");
    // What would be decided is decided by now.
    std::thread::sleep(Duration::from_millis(500));
    let list = bans(&gateway)?;
    ensure!(!list.contains("203.0.113.9") && !list.contains("kernel-ban"), "{list}");
    ensure!(!is_dropped(&lab), "the proxy itself is served");
    Ok(())
}

/// Where it listens, what tells that `/slow` was asked for, and what makes it go on.
type SlowOrigin = (SocketAddr, mpsc::Receiver<()>, mpsc::Sender<()>);

/// An origin that stops in the middle of the body of `/slow` until it is told to go on.
fn slow_origin(netns: &Netns) -> Result<SlowOrigin> {
    let listener = netns.inside(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let address = listener.local_addr()?;
    let (go_on, told) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    std::thread::spawn(move || {
        // One connection at a time is slow; the thread ends with its listener's process.
        let told = Arc::new(Mutex::new(told));
        for stream in listener.incoming().flatten() {
            let (told, begin) = (Arc::clone(&told), begin.clone());
            std::thread::spawn(move || serve(stream, &begin, &told));
        }
    });
    Ok((address, begun, go_on))
}

fn serve(mut stream: TcpStream, begin: &mpsc::Sender<()>, told: &Mutex<mpsc::Receiver<()>>) {
    let mut reader = match stream.try_clone() {
        Ok(stream) => BufReader::new(stream),
        Err(_) => return,
    };
    let (mut line, mut is_slow) = (String::new(), false);
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
        is_slow |= line.starts_with("GET /slow");
        if line == "\r\n" {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345");
            if is_slow && let Ok(told) = told.lock() {
                // Whoever is told, or tells, may be gone: then the test is over.
                let _ = begin.send(());
                let _ = told.recv_timeout(SOON * 4);
            }
            sent = sent.and_then(|()| stream.write_all(b"67890"));
            if sent.is_err() {
                return;
            }
            is_slow = false;
        }
        line.clear();
    }
}

#[test]
fn a_place_is_free_again_when_the_body_has_gone_out() -> Result<()> {
    let lab = Lab::new()?;
    let (origin, begun, go_on) = slow_origin(&lab.gateway)?;
    let settings =
        Settings::new(lab.folder.path(), origin).with("[[limits]]\nname = \"open\"\nconcurrency = 1");
    let _gateway = lab.start(&settings)?;
    let status =
        |path: &str| Ok::<u16, anyhow::Error>(get(&lab.attacker, Lab::ATTACKER.http(), path)?.status);
    ensure!(status("/")? == 200 && status("/")? == 200, "one after the other");
    let mut slow = Connection::open(&lab.attacker, Lab::ATTACKER.http(), SOON)?;
    slow.send(
        b"GET /slow HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n\r\n",
    )?;
    begun.recv_timeout(SOON).context("the origin was not asked")?;
    // The origin's head and half its body have long come by.
    std::thread::sleep(Duration::from_millis(300));
    ensure!(status("/")? == 429, "the place was free before the body had gone out");
    ensure!(get(&lab.clean, CLEAN.http(), "/")?.status == 200, "another address has places of its own");
    go_on.send(()).context("the origin is gone")?;
    ensure!(slow.receive()?.body == "1234567890");
    wait_until("a free place", SOON, || status("/").is_ok_and(|s| s == 200).then_some(()))
}

#[test]
fn the_command_line_lists_shows_resets_and_tests() -> Result<()> {
    let lab = Lab::new()?;
    let settings = Settings::new(lab.folder.path(), lab.origin.address()).with(
        "[log]\naccess = \"access.log\"\n[[limits]]\nname = \"address\"\nquota = 3\nwindow = \"1h\"\noffence_after = 0\n\
         algorithm = \"weighted-counters\"",
    );
    let gateway = lab.start(&settings)?;
    ensure!(gateway.log().contains("`address` is kept as sliding-window"), "{}", gateway.log());
    let ask = || Ok::<u16, anyhow::Error>(get(&lab.clean, CLEAN.http(), "/")?.status);
    let subject = format!("address={}", CLEAN.client());
    for status in [200, 200, 200, 429, 429] {
        ensure!(ask()? == status, "{status} was expected");
    }
    let list = gateway.ask(&["limits", "list"])?;
    ensure!(list[0]["name"] == "address" && list[0]["quota"] == 3, "{list}");
    let decisions = list[0]["decisions"].to_string();
    ensure!(decisions.contains("[\"allowed\",3]") && decisions.contains("[\"refused\",2]"), "{list}");
    let shown = gateway.ask(&["limits", "show", &subject])?;
    ensure!(shown[0]["limit"] == "address" && shown[0]["remaining"] == 0, "{shown}");
    gateway.ask(&["limits", "reset", &subject])?;
    ensure!(gateway.ask(&["limits", "show", &subject])?[0]["remaining"] == 3);
    ensure!(ask()? == 200, "what was counted is forgotten");
    ensure!(gateway.ask(&["limits", "show", "nonsense"]).is_err(), "not a part of a key");
    let page = gateway.metrics(&lab.gateway)?;
    for metric in [
        "gateway_limits_requests_total{limit=\"address\",outcome=\"refused\"} 2",
        "gateway_limits_keys{store=\"local\"} 1",
        "gateway_limits_push_back_dropped_total 0",
    ] {
        ensure!(page.contains(metric), "the metrics page has no {metric}:\n{page}");
    }
    let told = gateway.log().lines().filter(|line| line.contains("a rate limit refuses")).count();
    ensure!(told == 1, "{told} lines in the log for two refusals");

    // Whom a stricter policy would have refused of these six.
    let log = lab.folder.path().join("access.log");
    wait_until("the log's lines", SOON, || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default().lines().count();
        (lines == 6).then_some(())
    })?;
    let stricter = lab.folder.path().join("stricter.toml");
    std::fs::write(&stricter, "[[limits]]\nname = \"strict\"\nquota = 1\nwindow = \"1h\"")?;
    let (log, stricter) = (log.display().to_string(), stricter.display().to_string());
    let run = gateway.ask(&["limits", "test", &log, "--config", &stricter])?;
    ensure!(run["requests"] == 6 && run["refused"] == 5 && run["unreadable"] == 0, "{run}");
    let clients = run["limits"][0]["clients"].to_string();
    ensure!(run["limits"][0]["limit"] == "strict" && clients.contains(&CLEAN.client().to_string()), "{run}");
    Ok(())
}
