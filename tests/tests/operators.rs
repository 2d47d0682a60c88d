//! What operators ask and order, through the real command line: why, places, privacy, dry runs.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::places::{Value, database};
use gateway_tests::{Cluster, Node, Settings, curl_tls, wait_until};

/// An injection that the built-in rules refuse.
const ATTACK: &str = "GET /?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20- HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: x\r\n\r\n";
const CLEAN: &str = "GET /products?id=17 HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64)\r\naccept: */*\r\nconnection: close\r\n\r\n";
const SOON: Duration = Duration::from_secs(20);
const LISTED: &str = "10.90.3.0/24";

/// A gateway with everything that may have a say about an address.
fn scene() -> Result<Cluster> {
    let mut cluster = Cluster::new(1, None, "[bans.neighbours]\nenabled = false")?;
    let node = &mut cluster.nodes[0];
    let folder = node.folder().to_owned();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content);
    let clients = u32::from(Ipv4Addr::new(10, 90, 0, 0));
    let country = Value::Map(vec![("country", Value::Map(vec![("iso_code", Value::Text("NL"))]))]);
    let system = Value::Map(vec![
        ("autonomous_system_number", Value::Number(64_500)),
        ("autonomous_system_organization", Value::Text("Example Networks")),
    ]);
    write("country.mmdb", &database(clients, 16, &country))?;
    write("asn.mmdb", &database(clients, 16, &system))?;
    write("list.txt", LISTED.as_bytes())?;
    node.settings = node.settings.clone().with(
        "[log]\naccess = \"access.log\"\n\
         [bans]\nchallenge_path = \"/challenge\"\n\
         [bans.geo]\ncountry = \"country.mmdb\"\nasn = \"asn.mmdb\"\n\
         [[bans.feeds]]\nname = \"listed\"\nfile = \"list.txt\"\n\
         [[limits]]\nname = \"each\"\nquota = 600\nwindow = \"1h\"",
    );
    node.start()?;
    Ok(cluster)
}

/// The status and the location of the answer to a request, on a connection of its own.
fn ask(cluster: &Cluster, client: Ipv4Addr, request: &str) -> Result<(u16, String)> {
    let mut stream = cluster.connect(client, &cluster.nodes[0])?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    // One that keeps the connection ends with the pause.
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let _pause = std::io::Read::read_to_string(&mut stream, &mut answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no answer")?;
    let location = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default();
    Ok((status, location.to_owned()))
}

fn access_log(node: &Node) -> PathBuf {
    node.folder().join("access.log")
}

/// The lines of the access log about a client.
fn lines(node: &Node, client: &str) -> Result<Vec<serde_json::Value>> {
    let text = std::fs::read_to_string(access_log(node))?;
    let all = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(all.filter(|line| line["client"] == client).collect())
}

/// Attacks until the kernel drops.
fn attack(cluster: &Cluster, client: Ipv4Addr) -> Result<()> {
    let node = &cluster.nodes[0];
    let sink = node.sink()?;
    for _ in 0..5 {
        let (status, _) = ask(cluster, client, ATTACK)?;
        ensure!(status == 403, "an attack is answered with {status}");
    }
    cluster.wait_passes(false, client, node, &sink, SOON).map(drop)
}

#[test]
fn why_tells_every_layer() -> Result<()> {
    let cluster = scene()?;
    let node = &cluster.nodes[0];
    let gateway = node.gateway()?;
    let attacker = Cluster::client(66);
    let name = attacker.to_string();
    attack(&cluster, attacker)?;
    let why = gateway.ask(&["why", &name])?;
    let requests = why["decisions"][0]["cause"]["requests"].as_array().context("the requests")?;
    ensure!(requests.len() == 5, "{why}");
    ensure!(why["kernel"]["dropped"] == true && why["kernel"]["bans"][0]["target"] == name.as_str(), "{why}");
    ensure!(why["kernel"]["bans"][0]["hits"].as_u64().is_some_and(|hits| hits > 0), "{why}");
    ensure!(why["record"]["offences"].as_array().is_some_and(|offences| offences.len() == 5), "{why}");
    ensure!(why["limits"][0]["limit"] == "each" && why["limits"][0]["remaining"] == 595, "{why}");
    ensure!(why["place"]["country"] == "NL" && why["place"]["asn"] == 64_500, "{why}");
    // The access log has those requests, and where they came from.
    let log = wait_until("the log's lines", SOON, || lines(node, &name).ok().filter(|all| all.len() == 5))?;
    for line in &log {
        ensure!(requests.contains(&line["request_id"]), "{line} is no request of {why}");
        ensure!(line["country"] == "NL" && line["asn"] == 64_500, "{line}");
    }
    let text = gateway.say(&["why", &name])?;
    for part in
        ["kernel-ban on 10.90.0.66 by local", "its packets are dropped", "requests", "country NL, AS 64500"]
    {
        ensure!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    // Who is listed, and who is listed and allowed.
    let listed = Cluster::client(0x0305).to_string();
    let why = wait_until("the list", SOON, || {
        let why = gateway.ask(&["why", &listed]).ok()?;
        (why["kernel"]["dropped"] == true).then_some(why)
    })?;
    ensure!(
        why["feeds"][0]["network"] == LISTED && why["decisions"].as_array().is_some_and(Vec::is_empty),
        "{why}"
    );
    ensure!(why["summary"].as_str().is_some_and(|s| s.contains("by feed:listed")), "{why}");
    gateway.ask(&["allow", "add", &listed])?;
    let why = gateway.ask(&["why", &listed])?;
    ensure!(why["summary"].as_str().is_some_and(|s| s.contains("never banned")), "{why}");
    // Who did nothing.
    let why = gateway.ask(&["why", "10.90.9.9"])?;
    ensure!(why["summary"] == "nothing is held against it" && why["kernel"]["dropped"] == false, "{why}");
    Ok(())
}

#[test]
fn countries_systems_and_fingerprints_are_refused_at_layer_7() -> Result<()> {
    let cluster = scene()?;
    let node = &cluster.nodes[0];
    let gateway = node.gateway()?;
    let client = Cluster::client(7);
    ensure!(ask(&cluster, client, CLEAN)?.0 == 200, "a clean client is refused");
    for (scope, action, expected) in [
        ("country:NL", "l7-deny", (403, "")),
        ("asn:64500", "l7-deny", (403, "")),
        ("country:FR", "l7-deny", (200, "")),
        ("country:NL", "challenge", (303, "/challenge")),
        ("10.90.0.7", "observe", (200, "")),
    ] {
        gateway.ask(&["ban", "add", scope, "--action", action])?;
        let (status, location) = ask(&cluster, client, CLEAN)?;
        ensure!((status, location.as_str()) == expected, "{scope} {action}: {status} {location}");
        gateway.ask(&["ban", "remove", scope])?;
        ensure!(ask(&cluster, client, CLEAN)?.0 == 200, "{scope} {action}: refused after it was taken back");
    }
    let refused = gateway.ask(&["ban", "add", "country:NL", "--action", "kernel-ban"]);
    let refused = refused.expect_err("the kernel knows no countries").to_string();
    ensure!(refused.contains("the kernel can't ban it"), "{refused}");
    // A fingerprint: of curl, as the log has it. Who speaks without TLS has none.
    let https = SocketAddr::new(node.address(), Settings::HTTPS_PORT);
    let status = || curl_tls(&cluster.hub, https, "/products?id=17", &["--http1.1"]);
    ensure!(status()?.starts_with("200"), "{}", status()?);
    let hub = "10.83.1.1";
    let ja4 = wait_until("the fingerprint", SOON, || {
        lines(node, hub).ok()?.iter().find_map(|line| line["ja4"].as_str().map(str::to_owned))
    })?;
    gateway.ask(&["ban", "add", &format!("ja4:{ja4}")])?;
    ensure!(status()?.starts_with("403"), "{}", status()?);
    ensure!(ask(&cluster, client, CLEAN)?.0 == 200, "a client without TLS is refused for a fingerprint");
    Ok(())
}

#[test]
fn what_is_kept_is_exported_and_erased_and_a_log_is_played() -> Result<()> {
    let cluster = scene()?;
    let node = &cluster.nodes[0];
    let gateway = node.gateway()?;
    let attacker = Cluster::client(66);
    let name = attacker.to_string();
    ensure!(ask(&cluster, Cluster::client(7), CLEAN)?.0 == 200, "a clean client is refused");
    attack(&cluster, attacker)?;
    gateway.ask(&["ban", "remove", &name])?;
    let count = |export: &serde_json::Value, what: &str| export[what].as_array().map_or(0, Vec::len);
    let export = gateway.ask(&["privacy", "export", &name])?;
    let kept = ["decisions", "ended", "clients"].map(|what| count(&export, what));
    ensure!(kept == [0, 1, 1], "{export}");
    let erased = gateway.ask(&["privacy", "erase", &name])?;
    ensure!(erased["ended"] == 1 && erased["clients"] == 1 && erased["kept"] == 0, "{erased}");
    let export = gateway.ask(&["privacy", "export", &name])?;
    let kept = ["decisions", "ended", "clients"].map(|what| count(&export, what));
    ensure!(kept == [0, 0, 0], "{export}");
    let why = gateway.ask(&["why", &name])?;
    ensure!(why["summary"] == "nothing is held against it" && why["record"].is_null(), "{why}");
    // The scenarios on the log of all that: the attacker would have been banned, the other not.
    wait_until("the log's lines", SOON, || lines(node, &name).ok().filter(|all| all.len() == 5))?;
    let log = access_log(node).display().to_string();
    let config = node.settings.file().display().to_string();
    let report = gateway.ask(&["scenarios", "test", &log, "--config", &config])?;
    let scopes: Vec<&str> =
        report["decisions"].as_array().into_iter().flatten().filter_map(|d| d["scope"].as_str()).collect();
    ensure!(scopes == [name.as_str()] && report["refused_clean"] == 0, "{report}");
    ensure!(report["requests"] == 6 && report["unreadable"] == 0, "{report}");
    // Rotated logs lose their addresses.
    let rotated = node.folder().join("access.log.1");
    std::fs::copy(access_log(node), &rotated)?;
    gateway.ask(&["privacy", "anonymise", &rotated.display().to_string()])?;
    let text = std::fs::read_to_string(&rotated)?;
    ensure!(!text.contains(&name) && text.contains("10.90.0.0"), "{text}");
    Ok(())
}
