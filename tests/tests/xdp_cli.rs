//! `gateway capture` and `gateway xdp` against a running gateway: captures that tcpdump reads, interfaces put on and
//! taken off, a restart with other capacities, and nothing left behind. Needs root, bpftool and tcpdump.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Connection, Gateway, Lab, Origin, Settings, daemon, get, run, text, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for anything that a machine does at once, when it is not busy.
const LONG: Duration = Duration::from_secs(30);
/// How long an attempt to connect waits before it counts as dropped.
const SHORT: Duration = Duration::from_millis(700);

/// The command line against this lab's gateway, with JSON.
fn cli(settings: &Settings, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(daemon()?);
    command.arg("--control").arg(settings.socket()).arg("--json").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn json(child: Child) -> Result<Value> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("no JSON")
}

/// Datagrams from the attacker to the gateway.
fn send(lab: &Lab, count: usize) -> Result<()> {
    let to = SocketAddr::new(Lab::ATTACKER.gateway(), 7777);
    lab.attacker.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..count {
            // Nobody listens there; a refusal that came back for an earlier one is no matter.
            let _refused = socket.send_to(b"what the capture shows", to);
        }
        Ok(())
    })
}

fn is_dropped(lab: &Lab) -> bool {
    Connection::open(&lab.attacker, Lab::ATTACKER.http(), SHORT).is_err()
}

/// Lines that tcpdump prints for the file, one a packet.
fn tcpdump(file: &Path) -> Result<Vec<String>> {
    let printed = text(Command::new("tcpdump").args(["-n", "-r"]).arg(file))?;
    Ok(printed.lines().map(str::to_owned).collect())
}

/// Waits until a capture runs, or until none does.
fn capturing(gateway: &Gateway, runs: bool) -> Result<()> {
    wait_until("the capture's beginning or end", LONG, || {
        let status = gateway.ask(&["xdp", "status"]).ok()?;
        (status["capturing"].as_array()?.is_empty() != runs).then_some(())
    })
}

#[test]
fn dropped_packets_are_captured_for_tcpdump() -> Result<()> {
    let lab = Lab::new()?;
    let settings = lab.settings();
    let gateway = lab.start(&settings)?;
    let attacker = Lab::ATTACKER.client().to_string();
    gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
    wait_until("the ban", LONG, || is_dropped(&lab).then_some(()))?;

    // Bounded by packets.
    let file = lab.folder.path().join("packets.pcapng");
    let path = file.display().to_string();
    let capture =
        cli(&settings, &["capture", "--dropped", "--reason", "ban_host", "-w", &path, "--packets", "20"])?
            .spawn()?;
    capturing(&gateway, true)?;
    send(&lab, 60)?;
    let summary = json(capture)?;
    ensure!(summary["packets"] == 20 && summary["ended"] == "packets", "{summary}");
    ensure!(summary["lost"].is_u64(), "it says how many were lost: {summary}");
    let lines = tcpdump(&file)?;
    ensure!(lines.len() == 20, "{lines:?}");
    let expected = format!("IP {attacker}.");
    ensure!(
        lines.iter().all(|line| line.contains(&expected) && line.contains(".7777: UDP, length 22")),
        "{lines:?}"
    );
    let size = std::fs::metadata(&file)?.len();
    ensure!(summary["bytes"] == size, "{summary} for a file of {size}");

    // Bounded by time, of a reason that nothing is dropped for: an empty file that tcpdump reads too.
    let none = lab.folder.path().join("none.pcapng");
    let path = none.display().to_string();
    let capture =
        cli(&settings, &["capture", "--dropped", "--reason", "feed", "-w", &path, "--for", "2s"])?.spawn()?;
    capturing(&gateway, true)?;
    send(&lab, 20)?;
    let summary = json(capture)?;
    ensure!(summary["packets"] == 0 && summary["ended"] == "time" && summary["lost"] == 0, "{summary}");
    ensure!(tcpdump(&none)?.is_empty());

    // Bounded by bytes.
    let small = lab.folder.path().join("small.pcapng");
    let path = small.display().to_string();
    let capture = cli(&settings, &["capture", "--dropped", "-w", &path, "--bytes", "4KiB"])?.spawn()?;
    capturing(&gateway, true)?;
    send(&lab, 200)?;
    let summary = json(capture)?;
    ensure!(summary["ended"] == "bytes" && std::fs::metadata(&small)?.len() <= 4096, "{summary}");
    ensure!(tcpdump(&small)?.len() > 10);

    // Ended by Ctrl-C: the file is whole.
    let ended = lab.folder.path().join("ended.pcapng");
    let path = ended.display().to_string();
    let capture = cli(&settings, &["capture", "--dropped", "-w", &path])?.spawn()?;
    capturing(&gateway, true)?;
    send(&lab, 5)?;
    wait_until("the packets in the ring", LONG, || {
        let stats = gateway.ask(&["xdp", "stats"]).ok()?;
        (stats["dropped"].as_u64()? > 0).then_some(())
    })?;
    std::thread::sleep(Duration::from_millis(500));
    kill_process(pid(&capture)?, Signal::INT)?;
    let summary = json(capture)?;
    ensure!(summary["ended"] == "interrupted" && summary["packets"].as_u64() >= Some(5), "{summary}");
    ensure!(tcpdump(&ended)?.len() as u64 == summary["packets"], "{summary}");

    // Killed without a word: the gateway ends it by itself, and others may capture again.
    let mut capture = cli(&settings, &["capture", "--dropped", "-w", &path])?.spawn()?;
    capturing(&gateway, true)?;
    let second = gateway.ask(&["capture", "--dropped", "-w", &path]).err().context("two captures at once")?;
    ensure!(second.to_string().contains("another capture is under way"), "{second}");
    capture.kill()?;
    capture.wait()?;
    capturing(&gateway, false)?;
    gateway.ask(&["capture", "--dropped", "-w", &path, "--for", "1ms"])?;
    capturing(&gateway, false)
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")
}

#[test]
fn drops_are_told_by_example() -> Result<()> {
    let lab = Lab::new()?;
    let settings = lab.settings();
    let gateway = lab.start(&settings)?;
    ensure!(gateway.say(&["xdp", "events"])?.starts_with("nothing was sampled"), "nothing was dropped");
    let attacker = Lab::ATTACKER.client().to_string();
    gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
    wait_until("the ban", LONG, || is_dropped(&lab).then_some(()))?;

    // Followed from now on.
    let mut follower = cli(&settings, &["xdp", "events", "--follow", "-n", "0"])?.spawn()?;
    let lines = BufReader::new(follower.stdout.take().context("its output")?).lines();
    let fits = |event: &Value| {
        event["source"] == attacker
            && event["reason"] == "ban_host"
            && event["ban_reason"] == "manual"
            && event["dropped"] == true
            && event["interface_name"] == Lab::ATTACKER.interface
            && event["at_ms"].as_u64() > Some(1_700_000_000_000)
    };
    let is_datagram = |event: &Value| event["protocol"] == 17 && event["destination_port"] == 7777;
    send(&lab, 3)?;
    let followed = std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(is_datagram)
    });
    wait_until("the datagram, followed", LONG, || {
        // The budget may have been spent when the first came.
        send(&lab, 1).ok()?;
        std::thread::sleep(Duration::from_millis(100));
        followed.is_finished().then_some(())
    })
    .with_context(|| gateway.say(&["xdp", "events"]).unwrap_or_default())?;
    let event = followed.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?.context("an event")?;
    ensure!(fits(&event), "{event}");
    let number = event["number"].as_u64().context("its number")?;

    // The latest, of a reason, for people.
    let page = gateway.ask(&["xdp", "events", "-n", "1000", "--reason", "ban_host"])?;
    let events = page["events"].as_array().context("events")?;
    ensure!(events.iter().any(|event| event["number"] == number) && events.iter().all(fits), "{page}");
    ensure!(gateway.ask(&["xdp", "events", "-n", "1"])?["events"].as_array().map(Vec::len) == Some(1));
    let none = gateway.ask(&["xdp", "events", "--reason", "feed"])?;
    ensure!(none["events"].as_array().is_some_and(Vec::is_empty), "{none}");
    let said = gateway.say(&["xdp", "events", "-n", "1000"])?;
    let datagram = format!("{} ban_host (manual) {attacker}:", Lab::ATTACKER.interface);
    let line = said.lines().find(|line| line.contains(&datagram) && line.ends_with(":7777 udp 64 bytes"));
    ensure!(line.is_some(), "{said}");

    // Bounded, and ended with the gateway.
    for (arguments, complaint) in [(["-n", "1001"], "1001"), (["--reason", "clean"], "clean")] {
        let output = cli(&settings, &[&["xdp", "events"][..], &arguments].concat())?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(complaint), "{said}");
    }
    // Whoever reads no longer ends it, as with `| head`; and so does the gateway's end.
    let ended = wait_until("the follower's end", LONG, || {
        send(&lab, 1).ok()?;
        std::thread::sleep(Duration::from_millis(100));
        follower.try_wait().ok().flatten()
    })?;
    ensure!(ended.code() == Some(0), "{ended}");
    let mut follower = cli(&settings, &["xdp", "events", "--follow"])?.stdout(Stdio::null()).spawn()?;
    drop(gateway);
    let ended = wait_until("the follower's end", LONG, || follower.try_wait().ok().flatten())?;
    ensure!(ended.code() == Some(4), "no gateway answers any more: {ended}");
    Ok(())
}

#[test]
fn interfaces_are_put_on_and_taken_off_while_it_runs() -> Result<()> {
    let lab = Lab::new()?;
    let pin = lab.folder_of_pins();
    let settings = Settings::new(lab.folder.path(), lab.origin.address()).guard(&[CLEAN.interface], &pin);
    let settings = settings.with_kernel("modes = { malformed = \"observe\" }");
    let gateway = lab.start(&settings)?;
    let attacker = Lab::ATTACKER.client().to_string();
    gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
    ensure!(!is_dropped(&lab), "the attacker's interface has no program");

    let interface = Lab::ATTACKER.interface;
    let attached = gateway.ask(&["xdp", "attach", interface])?;
    ensure!(attached["attached"][0]["mode"] == "native", "{attached}");
    ensure!(attached["attached"][0]["reason"] == "native: attached", "the ladder is told: {attached}");
    ensure!(attached["until_restart"][0] == interface, "the configuration does not name it: {attached}");
    wait_until("the drop", LONG, || is_dropped(&lab).then_some(()))?;

    let status = gateway.ask(&["xdp", "status"])?;
    let interfaces = status["interfaces"].as_array().context("interfaces")?;
    ensure!(interfaces.len() == 2 && interfaces.iter().all(|one| one["mode"] == "native"), "{status}");
    let (modes, observed) = (&status["modes"], &status["effective"]["malformed"]);
    ensure!(
        modes["malformed"] == "observe" && modes["bans"] == "enforce" && observed == "observe",
        "{status}"
    );
    let tables = status["tables"].as_array().context("tables")?;
    let hosts = tables.iter().find(|table| table["table"] == "hosts").context("hosts")?;
    ensure!(hosts["used"] == 1 && hosts["capacity"] == 1_000_000 && hosts["bytes"] == 24 << 20, "{hosts}");
    ensure!(status["memory_total"].as_u64() > hosts["bytes"].as_u64(), "{status}");
    let top = gateway.ask(&["xdp", "top", "-n", "1"])?;
    ensure!(top[0]["target"] == attacker && top[0]["hits"].as_u64() > Some(0), "{top}");
    let stats = gateway.ask(&["xdp", "stats"])?;
    ensure!(stats["bans"][0]["reason"] == "manual", "{stats}");

    // Another mode, all or none, and off.
    let generic = gateway.ask(&["xdp", "attach", interface, "--mode", "generic"])?;
    let reason = "was native, generic is asked for; generic: attached";
    ensure!(generic["attached"][0]["reason"] == reason, "{generic}");
    ensure!(is_dropped(&lab));
    gateway.ask(&["xdp", "detach", interface])?;
    ensure!(!is_dropped(&lab));
    let refused =
        gateway.ask(&["xdp", "attach", interface, "no-such-if"]).err().context("attached to nothing")?;
    ensure!(refused.to_string().contains("\"no-such-if\" does not exist"), "{refused}");
    ensure!(!is_dropped(&lab), "all get the program, or none");
    let refused = gateway.ask(&["xdp", "detach", interface]).err().context("detached twice")?;
    ensure!(refused.to_string().contains("`gateway xdp status` lists"), "{refused}");

    // Attached by hand it goes with the next start, since the configuration does not name it.
    gateway.ask(&["xdp", "attach", interface])?;
    gateway.kill()?;
    let pinned = cli(&settings, &["xdp", "status", "--pin", &pin.display().to_string()])?;
    let status = json(in_namespace(&lab, pinned)?)?;
    ensure!(status["interfaces"].as_array().is_some_and(|all| all.len() == 2), "without a gateway: {status}");
    let gateway = lab.start(&settings)?;
    ensure!(!is_dropped(&lab));
    let status = gateway.ask(&["xdp", "status"])?;
    ensure!(status["interfaces"].as_array().is_some_and(|all| all.len() == 1), "{status}");
    let reason = status["interfaces"][0]["reason"].as_str().context("a reason")?;
    ensure!(reason.starts_with("adopted from the daemon before, native"), "{status}");
    Ok(())
}

/// The same command, in the gateway's namespace: what is pinned there has names there.
fn in_namespace(lab: &Lab, command: Command) -> Result<Child> {
    let mut inside = lab.gateway.command(command.get_program());
    inside.args(command.get_args()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(inside.spawn()?)
}

/// What bpftool says of one object; `None` when it is gone.
fn bpf(arguments: &[&str]) -> Result<Option<Value>> {
    let output = Command::new("bpftool").arg("-j").args(arguments).output().context("bpftool")?;
    if !output.status.success() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// Kind and id of every BPF object behind the pins of a folder, programs' maps included.
fn objects(folder: &Path) -> Result<Vec<(&'static str, u64)>> {
    let mut found = Vec::new();
    for entry in walk(folder)? {
        let path = entry.display().to_string();
        for kind in ["map", "prog", "link"] {
            let Some(value) = bpf(&[kind, "show", "pinned", &path])? else { continue };
            let Some(id) = value["id"].as_u64() else { continue };
            found.push((kind, id));
            found.extend(value["prog_id"].as_u64().map(|id| ("prog", id)));
            found.extend(
                value["map_ids"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_u64)
                    .map(|id| ("map", id)),
            );
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(walk(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

#[test]
fn detach_all_leaves_nothing_behind() -> Result<()> {
    for alive in [false, true] {
        let lab = Lab::new()?;
        let settings = lab.settings();
        let gateway = lab.start(&settings)?;
        let attacker = Lab::ATTACKER.client().to_string();
        gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
        wait_until("the ban", LONG, || is_dropped(&lab).then_some(()))?;
        let pin = lab.folder_of_pins();
        let before = objects(&pin)?;
        let count = |kind: &str| before.iter().filter(|(one, _)| *one == kind).count();
        ensure!(count("link") == 2 && count("map") >= 20 && count("prog") >= 1, "{before:?}");
        let mut gateway = Some(gateway);
        if !alive {
            gateway.take().context("it runs")?.kill()?;
        }
        let all = ["xdp", "detach", "--all", "--pin", &pin.display().to_string()];
        let detached = json(cli(&settings, &all)?.spawn()?)?;
        ensure!(detached["detached"] == 2, "{detached}");
        ensure!(!pin.exists(), "pins are left");
        ensure!(!is_dropped(&lab) || gateway.is_none(), "off the interfaces at once");
        // A gateway that runs holds its maps until it ends.
        drop(gateway);
        for (kind, id) in &before {
            wait_until(&format!("the end of {kind} {id}"), LONG, || {
                bpf(&[kind, "show", "id", &id.to_string()]).ok()?.is_none().then_some(())
            })?;
        }
        let again = json(cli(&settings, &all)?.spawn()?)?;
        ensure!(again["detached"] == 0, "with nothing there: {again}");
    }
    Ok(())
}

#[test]
fn a_restart_with_other_capacities_keeps_bans_and_packets() -> Result<()> {
    let lab = Lab::new()?;
    let database =
        format!("[bans]\ndatabase = {:?}\nmax_decisions = 4000", lab.folder.path().join("bans.redb"));
    let sized = |hosts: u32| {
        lab.settings().with_kernel(&format!("capacity = {{ hosts = {hosts}, wide = 5000 }}")).with(&database)
    };
    let gateway = lab.start(&sized(5_000))?;
    let attacker = Lab::ATTACKER.client().to_string();
    gateway.ask(&["ban", "add", &attacker, "--for", "10m"])?;
    wait_until("the ban", LONG, || is_dropped(&lab).then_some(()))?;

    // A client that sends all the while, to a socket that is not the gateway's: each datagram must come.
    const COUNT: u32 = 6_000;
    let to = SocketAddr::new(CLEAN.gateway(), 7778);
    let receiver = lab.gateway.inside(|| Ok(UdpSocket::bind(to)?))?;
    receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
    let sender = lab.clean.inside(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    let sending = std::thread::spawn(move || -> Result<()> {
        for number in 0..COUNT {
            sender.send_to(&number.to_be_bytes(), to)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    let counting = std::thread::spawn(move || {
        let mut received = 0;
        while received < COUNT && receiver.recv(&mut [0; 8]).is_ok() {
            received += 1;
        }
        received
    });
    let mut gateway = Some(gateway);
    for hosts in [50_000, 5_000] {
        gateway.take().context("it runs")?.kill()?;
        let again = lab.start(&sized(hosts))?;
        ensure!(is_dropped(&lab), "{hosts}: the ban is gone");
        let status = again.ask(&["xdp", "status"])?;
        ensure!(status["carried"]["bans"].as_u64() >= Some(1) && status["adopted"] == false, "{status}");
        ensure!(again.ask(&["ban", "list"])?.to_string().contains(&attacker));
        gateway = Some(again);
    }
    sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let received = counting.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
    ensure!(received == COUNT, "{} of {COUNT} datagrams were lost", COUNT - received);
    let answer = get(&lab.clean, CLEAN.http(), "/")?;
    ensure!(answer.status == 200);
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_no_program_behind() -> Result<()> {
    let lab = Lab::new()?;
    // The bans' database is no file that can be opened: found out after the program is on the interfaces.
    let settings = lab.settings().with(&format!("[bans]\ndatabase = {:?}", lab.folder.path()));
    let file = settings.write()?;
    let output = lab.gateway.command(daemon()?).arg("run").arg("--config").arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("bans"), "{}: {said}", output.status);
    let links = lab.folder_of_pins().join("links");
    ensure!(!links.exists() || walk(&links)?.is_empty(), "a link is left behind");
    run(lab.gateway.command("ip").args(["link", "show", CLEAN.interface]))?;
    let shown = text(lab.gateway.command("ip").args(["link", "show", CLEAN.interface]))?;
    ensure!(!shown.contains("xdp"), "{shown}");
    // A service of its own goes on there.
    let origin = lab.gateway.inside(|| Origin::on(CLEAN.http()))?;
    ensure!(get(&lab.clean, origin.address(), "/")?.status == 200);
    Ok(())
}
