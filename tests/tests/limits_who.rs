//! Whom a limit counts together, what a request costs, and what becomes of who is over it: with the real daemon, its databases, its
//! TLS and its logs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{
    CLEAN, Connection, Gateway, Lab, Mmdb, Netns, Place, Response, Settings, curl_tls, get, text, wait_until,
};

/// Longest wait for what takes a moment.
const SOON: Duration = Duration::from_secs(20);

/// A gateway without a kernel side, where that is not the matter.
fn start(lab: &Lab, more: &str) -> Result<Gateway> {
    lab.start(&Settings::new(lab.folder.path(), lab.origin.address()).with(more))
}

/// One request with these header lines besides the usual.
fn ask(netns: &Netns, place: Place, method: &str, target: &str, lines: &str) -> Result<Response> {
    let mut connection = Connection::open(netns, place.http(), SOON)?;
    connection.patience(SOON)?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\ncontent-length: 0\r\n{lines}\r\n"
    );
    connection.send(head.as_bytes())?;
    connection.receive()
}

#[test]
fn countries_and_networks_are_counted_together() -> Result<()> {
    let lab = Lab::new()?;
    let here = Ipv4Addr::new(192, 0, 2, 0);
    let country = Mmdb::Map(vec![("country", Mmdb::Map(vec![("iso_code", Mmdb::Text("CH"))]))]);
    std::fs::write(lab.folder.path().join("country.mmdb"), country.of_network(here, 24))?;
    let asn = Mmdb::Map(vec![("autonomous_system_number", Mmdb::Number(64500))]);
    std::fs::write(lab.folder.path().join("asn.mmdb"), asn.of_network(here, 24))?;
    let gateway = start(
        &lab,
        &format!(
            "[client]\ntrusted_proxies = [\"{}/32\"]\n[bans.geo]\ncountry = \"country.mmdb\"\nasn = \"asn.mmdb\"\n\
             [[limits]]\nname = \"country\"\nmethods = [\"GET\"]\nkey = [\"country\"]\nabsent = \"skip\"\nquota = 3\nwindow = \"1h\"\n\
             [[limits]]\nname = \"network\"\nmethods = [\"POST\"]\nkey = [\"asn\"]\nabsent = \"skip\"\nquota = 2\nwindow = \"1h\"",
            CLEAN.client()
        ),
    )?;
    for (method, limit, quota) in [("GET", "country", 3), ("POST", "network", 2)] {
        let from =
            |client: &str| ask(&lab.clean, CLEAN, method, "/", &format!("x-forwarded-for: {client}\r\n"));
        for host in 1..=quota {
            let answer = from(&format!("192.0.2.{host}"))?;
            ensure!(answer.status == 200, "{limit}: client {host} of {quota}: {}", answer.status);
        }
        let over = from("192.0.2.99")?;
        ensure!(
            over.status == 429 && over.body.contains(&format!("\"limit\":\"{limit}\"")),
            "{limit}: {over:?}"
        );
        for _ in 0..5 {
            ensure!(from("198.51.100.1")?.status == 200, "{limit}: nobody knows where that is");
        }
    }
    let stands = gateway.ask(&["limits", "show", "country=CH"])?;
    ensure!(stands[0]["limit"] == "country" && stands[0]["remaining"] == 0, "{stands}");
    let stands = gateway.ask(&["limits", "show", "asn=64500"])?;
    ensure!(stands.to_string().contains("\"network\""), "{stands}");
    Ok(())
}

fn openssl(folder: &Path, arguments: &str, more: &[&str]) -> Result<String> {
    text(Command::new("openssl").args(arguments.split_whitespace()).args(more).current_dir(folder))
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";

#[test]
fn certificates_and_handshakes_are_counted_together() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.folder.path();
    openssl(folder, &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -days 9 -subj"), &["/CN=staff"])?;
    for (serial, who) in [(2, "alice"), (3, "bob")] {
        let subject = format!("/O=Acme, Inc./CN={who}");
        openssl(
            folder,
            &format!("req {KEY} -keyout {who}.key -out {who}.csr -subj"),
            &[&subject, "-addext", &format!("subjectAltName=DNS:{who}.test")],
        )?;
        let sign = format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -days 9 -copy_extensions copy -out {who}.pem"
        );
        openssl(folder, &sign, &[])?;
    }
    let _gateway = start(
        &lab,
        "[tls]\nclient_auth = \"optional\"\nclient_ca = \"ca.pem\"\n[bans]\ndefault_scenarios = false\n\
         [[limits]]\nname = \"who\"\nmethods = [\"GET\"]\nkey = [\"certificate\"]\nabsent = \"skip\"\nquota = 2\nwindow = \"1h\"\n\
         [[limits]]\nname = \"how\"\nmethods = [\"PUT\"]\nkey = [\"ja4\"]\nquota = 2\nwindow = \"1h\"",
    )?;
    let places = [(&lab.clean, CLEAN), (&lab.attacker, Lab::ATTACKER)];
    let curl = |from: usize, more: &[&str]| -> Result<String> {
        let (netns, place) = places[from];
        let answer = curl_tls(netns, place.https(), "/", more)?;
        Ok(answer.split(' ').next().unwrap_or_default().to_owned())
    };
    let file = |name: &str| folder.join(name).display().to_string();
    // Whose certificate, from where, what is expected.
    for (turn, (who, from, expected)) in [
        ("alice", 0, "200"),
        ("alice", 1, "200"),
        ("alice", 1, "429"),
        ("alice", 0, "429"),
        ("bob", 0, "200"),
    ]
    .into_iter()
    .enumerate()
    {
        let (pem, key) = (file(&format!("{who}.pem")), file(&format!("{who}.key")));
        let status = curl(from, &["--cert", &pem, "--key", &key])?;
        ensure!(status == expected, "request {turn} of {who} got {status}, {expected} was expected");
    }
    for _ in 0..4 {
        ensure!(curl(0, &[])? == "200", "without a certificate the limit does not apply");
    }
    let put = |from: usize, more: &[&str]| curl(from, &[&["--request", "PUT"], more].concat());
    for (from, more, expected) in
        [(0, &[][..], "200"), (1, &[][..], "200"), (1, &[][..], "429"), (0, &["--tls-max", "1.2"][..], "200")]
    {
        let status = put(from, more)?;
        ensure!(status == expected, "a handshake with {more:?} got {status}, {expected} was expected");
    }
    Ok(())
}

#[test]
fn a_challenge_is_told_passed_and_ones_own() -> Result<()> {
    let lab = Lab::new()?;
    std::fs::write(lab.folder.path().join("secret"), "a secret that the challenge shares\n")?;
    let gateway = start(
        &lab,
        "[log]\naccess = \"access.log\"\n\
         [limit_challenge]\nlocation = \"/are-you-human\"\nsecret_file = \"secret\"\n\
         [[limits]]\nname = \"human\"\nquota = 2\nwindow = \"1h\"\naction = \"challenge\"\noffence_after = 0\n\
         [[limits]]\nname = \"quiet\"\nquota = 1\nwindow = \"1h\"\nmode = \"shadow\"",
    )?;
    let page = "accept: text/html\r\n";
    let there = Lab::ATTACKER;
    let from = |lines: &str, target: &str| ask(&lab.attacker, there, "GET", target, lines);
    for _ in 0..2 {
        ensure!(from(page, "/shop")?.status == 200);
    }
    let sent = from(page, "/shop?item=1")?;
    ensure!(sent.status == 302, "a page leads to the challenge: {sent:?}");
    ensure!(sent.header("location") == Some("/are-you-human?return=%2Fshop%3Fitem%3D1"), "{sent:?}");
    let told = from("accept: application/json\r\n", "/api")?;
    ensure!(told.status == 429 && told.header("retry-after").is_some(), "{told:?}");
    ensure!(told.header("x-gateway-challenge") == Some("/are-you-human?return=%2Fapi"), "{told:?}");
    ensure!(from(page, "/are-you-human?return=%2F")?.status == 200, "the challenge itself can be had");

    // The challenge is passed: its cookie, made by the same rule.
    let file = lab.folder.path().join("gateway.toml").display().to_string();
    let address = there.client().to_string();
    let cookie = gateway.ask(&["limits", "clearance", &address, "--for", "10m", "--config", &file])?;
    let value = cookie["value"].as_str().context("a value")?;
    let cleared = format!("{page}cookie: gateway_clearance={value}\r\n");
    for turn in 0..2 {
        ensure!(from(&cleared, "/shop")?.status == 200, "{turn}: cleared");
    }
    ensure!(
        from(&cleared, "/shop")?.status == 429,
        "a clearance is worth one quota, and leads nowhere again"
    );
    for turn in 0..3 {
        let status = ask(&lab.clean, CLEAN, "GET", "/shop", &cleared)?.status;
        ensure!(status == if turn < 2 { 200 } else { 302 }, "{turn}: another's clearance is none: {status}");
    }
    let log = lab.folder.path().join("access.log");
    wait_until("the log's lines", SOON, || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        let has = |text: &str| lines.lines().any(|line| line.contains(text));
        (has("\"denied\":\"rate_limited\",\"limit\":\"human\"")
            && has("\"status\":200")
            && has("\"shadowed\":[\"quiet\"]"))
        .then_some(())
    })?;
    let counted = gateway
        .metric(&lab.gateway, "gateway_limits_requests_total{limit=\"quiet\",outcome=\"shadowed\"}")?;
    ensure!(counted > 3.0, "{counted} shadowed");
    Ok(())
}

#[test]
fn who_is_too_fast_waits_and_who_is_banned_is_gone() -> Result<()> {
    let lab = Lab::new()?;
    let limits = "[[limits]]\nname = \"slow\"\nmethods = [\"GET\"]\nquota = 2\nwindow = \"2s\"\nalgorithm = \"gcra\"\nburst = 1\n\
                  action = \"delay\"\ndelay_max = \"8s\"\n\
                  [[limits]]\nname = \"once\"\nmethods = [\"DELETE\"]\nquota = 1\nwindow = \"1h\"\naction = \"ban\"";
    let gateway = lab.start(&lab.settings().with(limits))?;
    let started = Instant::now();
    for turn in 0..4 {
        let answer = get(&lab.clean, CLEAN.http(), "/")?;
        ensure!(answer.status == 200, "request {turn} waits and is answered: {}", answer.status);
    }
    let took = started.elapsed();
    ensure!(took >= Duration::from_secs(3), "one a second: four took {took:?}");
    let page = gateway.metrics(&lab.gateway)?;
    let delayed = "gateway_limits_requests_total{limit=\"slow\",outcome=\"delayed\"} ";
    ensure!(
        page.contains(delayed) && !page.contains(&format!("{delayed}0\n")),
        "somebody was held back:\n{page}"
    );

    let delete = || ask(&lab.attacker, Lab::ATTACKER, "DELETE", "/account", "");
    ensure!(delete()?.status == 200);
    ensure!(delete()?.status == 429, "the second is one too many");
    wait_until("the drop", SOON, || {
        Connection::open(&lab.attacker, Lab::ATTACKER.http(), Duration::from_millis(700))
            .is_err()
            .then_some(())
    })?;
    let list = gateway.ask(&["ban", "list"])?.to_string();
    ensure!(list.contains(&Lab::ATTACKER.client().to_string()) && list.contains("limit once"), "{list}");
    ensure!(get(&lab.clean, CLEAN.http(), "/")?.status == 200, "another client is served");
    Ok(())
}

/// An origin that does as it is told: `/404/7` is answered with 404 and `X-Cost: 7`, any other path with 200.
fn told_origin(netns: &Netns) -> Result<SocketAddr> {
    let listener = netns.inside(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || do_as_told(&stream));
        }
    });
    Ok(address)
}

fn do_as_told(mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut target) = (String::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
        if target.is_empty() {
            line.split(' ').nth(1).unwrap_or_default().clone_into(&mut target);
        }
        if line == "\r\n" {
            let mut numbers = target.split('/').skip(1).map(str::parse::<u16>);
            let status = numbers.next().and_then(Result::ok).unwrap_or(200);
            let cost = numbers.next().and_then(Result::ok);
            let cost = cost.map(|cost| format!("x-cost: {cost}\r\n")).unwrap_or_default();
            let answer = format!("HTTP/1.1 {status} Told\r\n{cost}content-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            target.clear();
        }
        line.clear();
    }
}

#[test]
fn the_answer_says_what_counts_and_what_it_costs() -> Result<()> {
    let lab = Lab::new()?;
    let settings = Settings::new(lab.folder.path(), told_origin(&lab.gateway)?).with(
        "[bans]\ndefault_scenarios = false\n\
         [[limits]]\nname = \"logins\"\nmethods = [\"POST\"]\nquota = 3\nwindow = \"15m\"\ncount_status = [\"401\"]\n\
         [[limits]]\nname = \"costs\"\nmethods = [\"GET\"]\nquota = 20\nwindow = \"1h\"\ncost_header = \"X-Cost\"\n\
         cost_by_status = { \"404\" = 5 }\n\
         [[limits]]\nname = \"pages\"\nmethods = [\"PUT\"]\nkey = [\"path\"]\nquota = 2\nwindow = \"1h\"",
    );
    let _gateway = lab.start(&settings)?;
    let ask = |method: &str, target: &str| ask(&lab.clean, CLEAN, method, target, "");
    let refused_by = |limit: &str, answer: &Response| {
        answer.status == 429 && answer.body.contains(&format!("\"limit\":\"{limit}\""))
    };
    // Only failed logins count, of which the fourth is not tried.
    for (turn, status) in [200, 200, 200, 200, 401, 401, 200, 401].into_iter().enumerate() {
        let answer = ask("POST", &format!("/{status}"))?;
        ensure!(answer.status == status, "login {turn}: {answer:?}");
    }
    let fourth = ask("POST", "/200")?;
    ensure!(refused_by("logins", &fourth), "{fourth:?}");

    // What is left, when the request after it is told.
    for (target, left) in
        [("/200", 19), ("/404", 18), ("/200/7", 13), ("/404/2", 6), ("/200/0", 4), ("/200/9", 4)]
    {
        let answer = ask("GET", target)?;
        let told = answer.header("ratelimit").context("how the limit stands")?;
        ensure!(
            told.starts_with(&format!("\"costs\";r={left};")),
            "{target}: {left} were to be left: {told}"
        );
    }
    let over = ask("GET", "/200")?;
    ensure!(refused_by("costs", &over), "{over:?}");

    for (target, passes) in
        [("/orders/17", true), ("/orders/18", true), ("/orders/19", false), ("/users/19", true)]
    {
        let answer = ask("PUT", target)?;
        ensure!((answer.status == 200) == passes, "{target}: {answer:?}");
    }
    Ok(())
}
