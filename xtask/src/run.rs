//! `cargo xtask run`: from a fresh clone to a gateway to play with.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use gateway_tests::{Netns, Origin, mount_bpffs, stop};

use crate::paths::Paths;
use crate::{build, process, ui};

/// How long the daemon may take until it is ready.
const READY: Duration = Duration::from_secs(20);
/// The namespace that stands for a client elsewhere.
const LAB: &str = "gateway-lab";
/// The gateway's end of the cable to it.
const INTERFACE: &str = "gwlab0";
/// Where the kernel side is pinned for as long as this runs.
const PIN: &str = "/sys/fs/bpf/gateway-lab";
/// The gateway's address on that cable.
const LAB_ADDRESS: &str = "10.78.0.1";
/// An injection that the built-in rules refuse.
const ATTACK: &str = "/?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20-";

/// Arguments of `cargo xtask run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The port of the plain HTTP listener
    #[arg(long, default_value_t = 8080)]
    http: u16,
    /// The port of the TLS listener
    #[arg(long, default_value_t = 8443)]
    https: u16,
}

/// Runs the verb, until Ctrl-C or SIGTERM.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let start = Instant::now();
    ui::heading("Building");
    build::ebpf(paths)?;
    let daemon = build::daemon(paths, "release")?;

    ui::heading("Starting");
    let origin = Origin::on(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    ui::already("demo origin", &format!("http://{}", origin.address()));
    let lab = if process::is_root() { Some(lab()?) } else { None };
    match &lab {
        Some(_) => {
            ui::already("lab", &format!("namespace {LAB}, cable {INTERFACE} ({LAB_ADDRESS}), XDP on it"));
        }
        None => {
            ui::note("not root: no lab and no XDP; attacks are refused, and nobody is dropped in the kernel");
        }
    }
    let folder = paths.target.join("run");
    let file = write_configuration(&folder, args, &origin, lab.is_some())?;
    let (sender, signals) = mpsc::channel();
    let mut handler =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    std::thread::spawn(move || handler.forever().try_for_each(|_| sender.send(())));

    // Its own process group: Ctrl-C reaches us alone, and we pass it on once.
    let mut child = Command::new(&daemon).arg("run").arg("--config").arg(&file).process_group(0).spawn()?;
    let outcome = serve(&mut child, args, lab.is_some(), &daemon, &folder, start, &signals);
    let ended = stop(&mut child);
    if lab.is_some() {
        let _ = std::fs::remove_dir_all(PIN);
    }
    drop(lab);
    outcome?;
    ended.map(|_| ())
}

fn serve(
    child: &mut Child,
    args: &Args,
    lab: bool,
    daemon: &Path,
    folder: &Path,
    start: Instant,
    signals: &mpsc::Receiver<()>,
) -> Result<()> {
    let spawned = Instant::now();
    // Its own word counts, not an open port: that may be somebody else's.
    while !answers(daemon, folder) {
        if let Some(status) = child.try_wait()? {
            bail!("the gateway ended ({status}); what it says above is why");
        }
        if spawned.elapsed() > READY {
            bail!("the gateway is not ready after {}", ui::seconds(READY));
        }
        if signals.try_recv().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("\nServing, {} after the command. Ctrl-C ends it.\n", ui::seconds(start.elapsed()));
    for line in invitation(args, lab, daemon, folder) {
        println!("{line}");
    }
    loop {
        if signals.recv_timeout(Duration::from_millis(200)).is_ok() {
            println!("\nStopping.");
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the gateway ended ({status})");
        }
    }
}

/// Whether the gateway answers on its control socket.
fn answers(daemon: &Path, folder: &Path) -> bool {
    let mut command = Command::new(daemon);
    command.arg("--control").arg(folder.join("control.sock")).arg("status");
    process::capture(&mut command).is_ok()
}

/// The URLs and the three lines to try.
fn invitation(args: &Args, lab: bool, daemon: &Path, folder: &Path) -> Vec<String> {
    let http = format!("http://127.0.0.1:{}", args.http);
    let mut lines = vec![
        format!("    {http}    https://127.0.0.1:{}", args.https),
        String::new(),
        "  passes:".to_owned(),
        format!("    curl -i '{http}/hello'"),
        "  is refused with 403:".to_owned(),
        format!("    curl -i '{http}{ATTACK}'"),
    ];
    if lab {
        let url = format!("http://{LAB_ADDRESS}:{}{ATTACK}", args.http);
        lines.push("  is refused, then banned: from then on the kernel drops its packets (000):".to_owned());
        lines.push(format!(
            "    for i in $(seq 8); do ip netns exec {LAB} curl -s -m 2 -o /dev/null -w '%{{http_code}}\\n' '{url}'; done"
        ));
    }
    lines.push("  how it is:".to_owned());
    lines.push(format!(
        "    {} --control {} status",
        daemon.display(),
        folder.join("control.sock").display()
    ));
    lines.push(String::new());
    lines
}

/// The client's namespace and its cable; what a killed run left behind goes first.
fn lab() -> Result<Netns> {
    mount_bpffs()?;
    // Whoever was banned in an earlier run starts anew.
    let _ = std::fs::remove_dir_all(PIN);
    // The kernel takes interfaces down after their namespace, some time later.
    let _ = process::capture(Command::new("ip").args(["link", "del", INTERFACE]));
    let netns = Netns::named(LAB)?;
    netns.cable_to_host((INTERFACE, &[&format!("{LAB_ADDRESS}/24")]), ("eth0", &["10.78.0.2/24"]))?;
    Ok(netns)
}

/// The embedded defaults, and what this machine's scene adds to them.
fn write_configuration(folder: &Path, args: &Args, origin: &Origin, lab: bool) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut listeners = vec![
        ("http", format!("127.0.0.1:{}", args.http), false),
        ("https", format!("127.0.0.1:{}", args.https), true),
    ];
    let mut kernel = String::new();
    if lab {
        listeners.push(("lab", format!("{LAB_ADDRESS}:{}", args.http), false));
        kernel = format!("[kernel]\ninterfaces = [\"{INTERFACE}\"]\npin = \"{PIN}\"\n");
    }
    let mut text = format!(
        "# Written by `cargo xtask run`.\n[control]\nsocket = {:?}\n",
        folder.join("control.sock").display().to_string()
    );
    for (name, address, tls) in listeners {
        let _ = writeln!(text, "[[listeners]]\nname = \"{name}\"\naddress = \"{address}\"\ntls = {tls}");
    }
    let _ = write!(text, "[[upstreams]]\nname = \"demo\"\nservers = [\"{}\"]\n{kernel}", origin.address());
    let file = folder.join("gateway.toml");
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
