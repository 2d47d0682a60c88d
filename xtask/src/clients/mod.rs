//! `cargo xtask clients`: real clients through the daemon to real servers, and attackers' tools with a clean client
//! beside them.

mod attacks;
mod browser;
mod load;
mod stage;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::{build, setup, ui};
use stage::Stage;

/// Arguments of `cargo xtask clients`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The gateway to ask; default: the release build
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
    /// Only the clients whose names hold this
    filter: Vec<String>,
}

/// A client: its name, and what it does. What it gives back is the figure to show.
type Case = (&'static str, fn(&Stage) -> Result<String>);

const CASES: [Case; 15] = [
    ("curl h1", |s| curl(s, "--http1.1", "1.1")),
    ("curl h2", |s| curl(s, "--http2", "2")),
    ("curl h2 without TLS", curl_h2c),
    ("curl ranges, uploads, continue", curl_bodies),
    ("h2load", load::h2load),
    ("wrk", load::wrk),
    ("wrk, uploads", load::wrk_uploads),
    ("Python websockets", python_websockets),
    ("grpcio", grpcio),
    ("aioquic", aioquic),
    ("Chromium", browser::chromium),
    ("slowhttptest, headers", |s| attacks::slow(s, "-H")),
    ("slowhttptest, body", |s| attacks::slow(s, "-B")),
    ("slowhttptest, range and read", |s| {
        Ok(format!("{}; {}", attacks::slow(s, "-R")?, attacks::slow(s, "-X")?))
    }),
    ("testssl.sh", attacks::testssl),
];

/// Runs every client and prints what it found.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    ui::heading("What the clients need");
    setup::for_clients(paths)?;
    ui::heading("Building");
    let gateway = build::release(args.gateway.as_deref(), paths)?;
    let stage = Stage::start(&gateway, paths).context("setting the stage")?;
    ui::heading("Clients");
    let start = Instant::now();
    let mut failed = Vec::new();
    for (name, case) in CASES {
        if !args.filter.is_empty() && !args.filter.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        if let Err(error) = ui::step(name, || case(&stage)) {
            eprintln!("    {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        eprintln!("the daemon's log ends:\n{}", stage.log_tail());
        bail!("failed: {}", failed.join(", "));
    }
    println!("All clients were served in {}.", ui::seconds(start.elapsed()));
    Ok(())
}

/// What a program printed, or why it failed.
fn output(command: &mut Command) -> Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let out =
        command.stdin(std::process::Stdio::null()).output().with_context(|| format!("starting {what}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!("{what} failed ({}): {text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(text)
}

fn curl_command(stage: &Stage) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--cacert"]).arg(stage.ca());
    command
}

fn curl(stage: &Stage, version: &str, expected: &str) -> Result<String> {
    // Two requests: the second goes over the connection of the first.
    let url = format!("https://localhost:{}/", stage.tls);
    let format = "%{http_version} %{http_code} %{num_connects}\\n";
    let text = output(curl_command(stage).args([
        version,
        "-o",
        "/dev/null",
        "-w",
        format,
        &url,
        "-o",
        "/dev/null",
        &url,
    ]))?;
    let lines: Vec<&str> = text.lines().collect();
    let [first, second] = [format!("{expected} 200 1"), format!("{expected} 200 0")];
    if lines != [first.as_str(), second.as_str()] {
        bail!("curl says: {text}");
    }
    Ok(format!("HTTP/{expected}, two requests on one connection"))
}

fn curl_h2c(stage: &Stage) -> Result<String> {
    let url = format!("http://localhost:{}/", stage.plain);
    let text = output(curl_command(stage).args(["--http2-prior-knowledge", "-w", "%{http_version}", &url]))?;
    if text != "GET / HTTP/1.12" {
        bail!("curl says: {text}");
    }
    Ok("HTTP/2 by prior knowledge".to_owned())
}

fn curl_bodies(stage: &Stage) -> Result<String> {
    let big = stage.folder().join("upload");
    std::fs::write(&big, vec![b'u'; 5 << 20])?;
    let data = format!("@{}", big.display());
    let (site, length) = (
        format!("https://localhost:{}/site/large", stage.tls),
        format!("https://localhost:{}/site/length", stage.tls),
    );
    let size = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
    for version in ["--http1.1", "--http2"] {
        let cases: [(&[&str], &str); 5] = [
            (&["-r", "1000-1999", size[0], size[1], size[2], size[3], &site], "206 1000"),
            (&[size[0], size[1], size[2], size[3], &site], "200 1048576"),
            (&["-I", size[0], size[1], "-w", "%{http_code}", &site], "200"),
            (&["-H", "Expect: 100-continue", "--data-binary", &data, &length], "5242880"),
            (&["-H", "Transfer-Encoding: chunked", "--data-binary", &data, &length], "5242880"),
        ];
        for (args, expected) in cases {
            // HTTP/2 has no chunks.
            if version == "--http2" && args[1].starts_with("Transfer") {
                continue;
            }
            let text = output(curl_command(stage).arg(version).args(args))?;
            if text != expected {
                bail!("curl {version} {args:?} says {text}, not {expected}");
            }
        }
    }
    Ok("206, HEAD, 100-continue, chunks; 1 MiB down, 5 MiB up, h1 and h2".to_owned())
}

fn python_websockets(stage: &Stage) -> Result<String> {
    let (plain, tls) = (stage.plain.to_string(), stage.tls.to_string());
    let text = output(stage.python("websocket.py").args([&plain, &tls]).arg(stage.ca()))?;
    Ok(text.trim().to_owned())
}

fn grpcio(stage: &Stage) -> Result<String> {
    let text = output(stage.python("rpc.py").arg(stage.tls.to_string()).arg(stage.ca()))?;
    Ok(text.trim().to_owned())
}

fn aioquic(stage: &Stage) -> Result<String> {
    let text = output(stage.python("h3.py").arg(stage.tls.to_string()).arg(stage.ca()))?;
    Ok(text.trim().to_owned())
}
