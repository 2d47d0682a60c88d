//! A real systemd, process 1 of namespaces of its own, runs the service: its socket is there before the gateway is, and
//! neither hand-overs nor restarts nor reloads cost a request.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use gateway_tests::{Origin, Scratch, daemon, text, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);
/// Hand-overs and restarts.
const TURNS: usize = 3;
/// What is taken from the packaged unit: how systemd follows the service. The rest is about its user and its walls.
const KEPT: [&str; 6] =
    ["Type", "NotifyAccess", "WatchdogSec", "RestartSec", "TimeoutStartSec", "TimeoutStopSec"];

/// Process 1, and what it leaves behind.
struct Systemd {
    unshare: Child,
    cgroup: PathBuf,
}

impl Systemd {
    /// Starts it on the units of `folder`, with `target` to reach. It sees no other units and runs no generators.
    fn start(folder: &Path, target: &str) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let root = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4))
            .context("no cgroup2 is mounted")?;
        // The folder's name is nobody else's.
        let cgroup = Path::new(root).join(folder.file_name().context("no folder")?);
        std::fs::create_dir(&cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
        let boot = folder.join("boot");
        std::fs::write(
            &boot,
            format!(
                "set -e\nmount --make-rprivate /\nmount -t tmpfs tmpfs /run\numount -R -l /sys/fs/cgroup\n\
                 mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
                 export container=test SYSTEMD_UNIT_PATH={0} SYSTEMD_GENERATOR_PATH={0}/none\n\
                 exec /lib/systemd/systemd --system --unit={target} --log-target=console --show-status=no\n",
                folder.display()
            ),
        )?;
        let log = std::fs::File::create(folder.join("systemd.log"))?;
        let unshare = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "echo $$ > {}/cgroup.procs && exec unshare --pid --fork --mount --cgroup --ipc --uts --mount-proc \
                 --kill-child sh {}",
                cgroup.display(),
                boot.display()
            ))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a namespace: these tests run as root")?;
        let systemd = Self { unshare, cgroup };
        let up = || systemd.ctl(&["is-active", target]).is_ok().then_some(());
        wait_until("systemd", PATIENCE, up)
            .with_context(|| std::fs::read_to_string(folder.join("systemd.log")).unwrap_or_default())?;
        Ok(systemd)
    }

    /// Runs `systemctl` beside it.
    fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let id = self.unshare.id();
        let first = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let first = first.split_whitespace().next().context("systemd has not begun")?;
        text(Command::new("nsenter").args(["-t", first, "-m", "-p", "systemctl"]).args(arguments))
    }

    fn main_process(&self) -> Result<u32> {
        let pid = self.ctl(&["show", "-p", "MainPID", "--value", "gateway.service"])?;
        Ok(pid.trim().parse()?)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Everything in a process namespace ends with its first process.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = wait_until("the end of the control group", PATIENCE, || remove(&self.cgroup).ok());
    }
}

/// Removes a control group with those in it.
fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    std::fs::remove_dir(cgroup)
}

/// One request; over `kept` where there is one, and kept again unless the gateway says otherwise.
fn ask(address: SocketAddr, kept: &mut Option<TcpStream>, keeps: bool) -> Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address).context("no connection")?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let connection = if keeps { "keep-alive" } else { "close" };
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte).context("no answer")? == 1, "closed without an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?.to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    stream.read_exact(&mut vec![0; length.trim().parse()?])?;
    if keeps && !head.contains("connection: close") {
        *kept = Some(stream);
    }
    Ok(())
}

/// The units: a socket, the service with what the package says of its life, a target that wants the socket alone.
fn units(folder: &Path, address: SocketAddr, origin: SocketAddr) -> Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/gateway.service");
    let package = std::fs::read_to_string(&package)?;
    let kept = |line: &&str| line.split_once('=').is_some_and(|(key, _)| KEPT.contains(&key));
    let kept: Vec<&str> = package.lines().filter(kept).collect();
    ensure!(kept.len() == KEPT.len(), "the packaged unit says only {kept:?}");
    let (program, f) = (daemon()?.display().to_string(), folder.display());
    let none = "[Unit]\nDefaultDependencies=no\n";
    std::fs::write(folder.join("gateway.socket"), format!("{none}[Socket]\nListenStream={address}\n"))?;
    std::fs::write(
        folder.join("gateway.service"),
        format!(
            "{none}[Service]\n{}\nExecStart={program} run --config {f}/gateway.toml\n\
             ExecReload={program} reload --control {f}/control.sock\n\
             StandardOutput=append:{f}/gateway.log\nStandardError=append:{f}/gateway.log\n",
            kept.join("\n")
        ),
    )?;
    std::fs::write(
        folder.join("test.target"),
        format!("{none}Requires=gateway.socket\nAfter=gateway.socket\n"),
    )?;
    std::fs::write(
        folder.join("gateway.toml"),
        format!(
            "[server]\nworkers = 2\n[log]\naccess = \"off\"\n[waf]\nmode = \"off\"\n[bans]\nenabled = false\n\
             [control]\nsocket = \"{f}/control.sock\"\nlisten = \"off\"\n\
             [[listeners]]\naddress = \"{address}\"\n[[upstreams]]\nservers = [\"{origin}\"]\n"
        ),
    )?;
    Ok(())
}

#[test]
fn a_socket_activated_service_is_handed_over_reloaded_and_restarted_without_a_lost_request() -> Result<()> {
    let folder = Scratch::new()?;
    let origin = Origin::on((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    units(folder.path(), address, origin.address())?;
    let systemd = Systemd::start(folder.path(), "test.target")?;
    ensure!(systemd.ctl(&["is-active", "gateway.service"]).is_err(), "the service runs before anyone asks");
    // The first connection starts it, and is answered.
    ask(address, &mut None, false)?;

    let (is_over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let client = |keeps: bool| {
            let (is_over, asked) = (&is_over, &asked);
            scope.spawn(move || -> Result<()> {
                let mut kept = None;
                while !is_over.load(Ordering::Relaxed) {
                    ask(address, &mut kept, keeps)?;
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let clients = [client(true), client(true), client(false), client(false)];
        let turned = turns(&systemd, &asked);
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            let Ok(served) = client.join() else { bail!("a client panicked") };
            served.context("a request failed")?;
        }
        turned
    })
    .inspect_err(|_| {
        eprintln!("{}", std::fs::read_to_string(folder.path().join("gateway.log")).unwrap_or_default());
    })?;
    println!(
        "numbers: {} requests over {TURNS} hand-overs, reloads and restarts",
        asked.load(Ordering::Relaxed)
    );
    Ok(())
}

/// Everything that changes the service, under load.
fn turns(systemd: &Systemd, asked: &AtomicU64) -> Result<()> {
    let some_requests = || {
        let before = asked.load(Ordering::Relaxed);
        wait_until("requests", PATIENCE, || (asked.load(Ordering::Relaxed) > before + 100).then_some(()))
    };
    for turn in 0..TURNS {
        some_requests()?;
        let before = systemd.main_process()?;
        systemd.ctl(&["kill", "-s", "USR2", "--kill-who=main", "gateway.service"])?;
        // It is another process now, and still the same service: systemd was told by MAINPID and started nothing.
        let after = wait_until("the successor", PATIENCE, || {
            systemd.main_process().ok().filter(|pid| ![0, before].contains(pid))
        })?;
        some_requests()?;
        systemd.ctl(&["reload", "gateway.service"]).context("reload")?;
        ensure!(systemd.main_process()? == after, "turn {turn}: systemd started the service anew");
        some_requests()?;
        systemd.ctl(&["restart", "gateway.service"]).context("restart")?;
        ensure!(systemd.main_process()? != after, "turn {turn}: not restarted");
    }
    some_requests()?;
    let restarts = systemd.ctl(&["show", "-p", "NRestarts", "--value", "gateway.service"])?;
    ensure!(restarts.trim() == "0", "systemd had to start it again {restarts} times");
    systemd.ctl(&["is-active", "gateway.service"]).map(drop)
}
