//! The daemon under test: its settings, its process, its command line.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::command::wait_until;
use crate::netns::Netns;

/// How long the daemon may take until it is ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to end.
const END: Duration = Duration::from_secs(20);

/// The daemon's binary: `GATEWAY_BIN`, which `cargo xtask test` sets.
pub fn daemon() -> Result<PathBuf> {
    let path = std::env::var_os("GATEWAY_BIN")
        .context("GATEWAY_BIN names no daemon: run these tests with `cargo xtask test`, which builds it")?;
    let path = PathBuf::from(path);
    if !path.exists() {
        bail!("there is no daemon at {}: `cargo xtask build` makes it", path.display());
    }
    Ok(path)
}

/// A configuration to start with, and where its pieces are.
#[derive(Debug, Clone)]
pub struct Settings {
    daemon: Option<PathBuf>,
    folder: PathBuf,
    origin: SocketAddr,
    kernel: String,
    more: String,
    hosts: Option<PathBuf>,
    notify: Option<PathBuf>,
}

impl Settings {
    /// The port of the plain HTTP listener.
    pub const HTTP_PORT: u16 = 8080;
    /// The port of the TLS listener.
    pub const HTTPS_PORT: u16 = 8443;
    /// The port of health and metrics, on loopback.
    pub const CONTROL_PORT: u16 = 9180;

    /// Listeners on every address, one upstream, no kernel side; everything kept in `folder`.
    pub fn new(folder: &Path, origin: SocketAddr) -> Self {
        Self {
            daemon: None,
            folder: folder.to_owned(),
            origin,
            kernel: String::new(),
            more: String::new(),
            hosts: None,
            notify: None,
        }
    }

    /// Runs this daemon instead of the one that `GATEWAY_BIN` names.
    #[must_use]
    pub fn daemon(mut self, path: &Path) -> Self {
        self.daemon = Some(path.to_owned());
        self
    }

    /// Lets the daemon see this file as /etc/hosts, in a mount namespace of its own.
    #[must_use]
    pub fn hosts(mut self, file: &Path) -> Self {
        self.hosts = Some(file.to_owned());
        self
    }

    /// Has the daemon tell this socket what it tells the service manager.
    #[must_use]
    pub fn notify(mut self, socket: &Path) -> Self {
        self.notify = Some(socket.to_owned());
        self
    }

    /// The daemon's command line up to the program, in the namespace.
    fn command(&self, netns: &Netns) -> Result<Command> {
        let program = self.program()?;
        let mut command = match &self.hosts {
            None => netns.command(program),
            Some(hosts) => {
                let mut command = netns.command("unshare");
                let mount = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
                command.args(["--mount", "sh", "-c", mount, "sh"]).arg(hosts).arg(program);
                command
            }
        };
        if let Some(socket) = &self.notify {
            command.env("NOTIFY_SOCKET", socket);
        }
        Ok(command)
    }

    fn program(&self) -> Result<PathBuf> {
        self.daemon.clone().map_or_else(daemon, Ok)
    }

    /// Guards interfaces with the XDP program, pinned under `pin`.
    #[must_use]
    pub fn guard(mut self, interfaces: &[&str], pin: &Path) -> Self {
        self.kernel =
            format!("[kernel]\ninterfaces = {interfaces:?}\npin = {:?}\n", pin.display().to_string());
        self
    }

    /// Adds lines to the section of the kernel side.
    #[must_use]
    pub fn with_kernel(mut self, lines: &str) -> Self {
        self.kernel.push_str(lines);
        self.kernel.push('\n');
        self
    }

    /// Appends lines of TOML.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    /// The configuration file's text.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "[control]\nsocket = {:?}", self.socket().display().to_string());
        let _ = writeln!(text, "listen = \"127.0.0.1:{}\"", Self::CONTROL_PORT);
        // A listener on [::] takes IPv6 alone.
        for (family, any) in [("4", "0.0.0.0"), ("6", "[::]")] {
            for (name, port, tls) in [("http", Self::HTTP_PORT, false), ("https", Self::HTTPS_PORT, true)] {
                let _ = writeln!(
                    text,
                    "[[listeners]]\nname = \"{name}{family}\"\naddress = \"{any}:{port}\"\ntls = {tls}"
                );
            }
        }
        let _ = writeln!(text, "[[upstreams]]\nname = \"origin\"\nservers = [\"{}\"]", self.origin);
        let _ = writeln!(text, "{}{}", self.kernel, self.more);
        text
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    /// The daemon's output.
    pub fn log(&self) -> PathBuf {
        self.folder.join("gateway.log")
    }

    /// Writes the configuration file.
    pub fn write(&self) -> Result<PathBuf> {
        let file = self.file();
        std::fs::write(&file, self.toml()).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

/// A running daemon; it is killed with the value.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    settings: Settings,
    /// From the start of the process to ready.
    pub started_in: Duration,
}

impl Gateway {
    /// Starts the daemon in the namespace and waits until it says that it is ready.
    pub fn start(netns: &Netns, settings: &Settings) -> Result<Self> {
        let mut gateway = Self::spawn(netns, settings, &[])?;
        let start = Instant::now();
        gateway.wait_ready(netns)?;
        gateway.started_in = start.elapsed();
        Ok(gateway)
    }

    /// Starts another daemon that takes over from this one, and waits until it has and this one has ended.
    pub fn hand_over(&mut self, netns: &Netns) -> Result<()> {
        let mut next = Self::spawn(netns, &self.settings, &["--take-over"])?;
        let ended = wait_until("the end of the one taken over from", READY + END, || {
            match (self.child.try_wait(), next.child.try_wait()) {
                (Ok(Some(status)), _) => Some(Ok(status)),
                (_, Ok(Some(status))) => Some(Err(status)),
                _ => None,
            }
        });
        match ended {
            Ok(Ok(status)) if status.success() => {
                std::mem::swap(self, &mut next);
                Ok(())
            }
            other => bail!("the hand-over failed: {other:?}:\n{}", self.log()),
        }
    }

    fn spawn(netns: &Netns, settings: &Settings, more: &[&str]) -> Result<Self> {
        let file = settings.write()?;
        let log = std::fs::File::options().create(true).append(true).open(settings.log())?;
        let child = settings
            .command(netns)?
            .arg("run")
            .arg("--config")
            .arg(file)
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the daemon")?;
        Ok(Self { child, settings: settings.clone(), started_in: Duration::ZERO })
    }

    fn wait_ready(&mut self, netns: &Netns) -> Result<()> {
        let control = SocketAddr::from(([127, 0, 0, 1], Settings::CONTROL_PORT));
        let mut ended = None;
        let answer = wait_until("readiness", READY, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                ended = Some(status);
                return Some(());
            }
            crate::get(netns, control, "/readyz").ok().filter(|answer| answer.status == 200).map(|_| ())
        });
        if let Some(status) = ended {
            bail!("the daemon ended ({status}) instead of serving:\n{}", self.log());
        }
        answer.with_context(|| format!("the daemon's log:\n{}", self.log()))
    }

    /// What the daemon has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.settings.log()).unwrap_or_default()
    }

    /// Runs `gateway --json ARGUMENTS` against this daemon and returns the JSON.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let output = cli(&self.settings, arguments)?;
        if !output.status.success() {
            bail!(
                "`gateway {}` failed ({}): {}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "`gateway {}` printed no JSON: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stdout)
            )
        })
    }

    /// The sum of a metric's values, over all its labels.
    pub fn metric(&self, netns: &Netns, name: &str) -> Result<f64> {
        let page = self.metrics(netns)?;
        let named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values: Vec<f64> =
            page.lines().filter(named).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        if values.is_empty() {
            bail!("the metrics page has no {name}:\n{page}");
        }
        Ok(values.iter().sum())
    }

    /// Runs `gateway ARGUMENTS` against this daemon and returns what people read.
    pub fn say(&self, arguments: &[&str]) -> Result<String> {
        crate::command::text(
            Command::new(self.settings.program()?)
                .arg("--control")
                .arg(self.settings.socket())
                .args(arguments),
        )
    }

    /// The metrics page.
    pub fn metrics(&self, netns: &Netns) -> Result<String> {
        let control = SocketAddr::from(([127, 0, 0, 1], Settings::CONTROL_PORT));
        Ok(crate::get(netns, control, "/metrics")?.body)
    }

    /// Packets that the kernel dropped so far, from the metrics page.
    pub fn dropped(&self, netns: &Netns) -> Result<u64> {
        let page = self.metrics(netns)?;
        let lines =
            page.lines().filter(|line| line.starts_with("gateway_xdp_packets_total{verdict=\"dropped\"}"));
        let values: Vec<u64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        if values.is_empty() {
            bail!("the metrics page has no count of dropped packets:\n{page}");
        }
        Ok(values.iter().sum())
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(&self.child, signal)
    }

    /// Sends SIGKILL, and does not wait: [`Gateway::kill`] does.
    pub fn signal_kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let child = &mut self.child;
        wait_until("the daemon's end", END, || child.try_wait().ok().flatten())
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("the daemon could not be killed")?;
        let status = self.child.wait()?;
        if status.signal() != Some(9) {
            bail!("the daemon had ended before it was killed ({status}):\n{}", self.log());
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends SIGTERM to a child and waits for its end.
pub fn stop(child: &mut Child) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    send(child, Signal::TERM)?;
    wait_until("the daemon's end", END, || child.try_wait().ok().flatten())
}

pub(crate) fn send(child: &Child, signal: Signal) -> Result<()> {
    let pid =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the daemon has no process id")?;
    kill_process(pid, signal).context("the signal could not be sent")
}

/// Runs the command line against the daemon of `settings`.
fn cli(settings: &Settings, arguments: &[&str]) -> Result<Output> {
    Command::new(settings.program()?)
        .arg("--control")
        .arg(settings.socket())
        .arg("--json")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the command line")
}
