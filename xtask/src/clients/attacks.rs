//! Attackers' tools: slow clients with a clean one beside them, and a look at TLS from outside.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::stage::Stage;

/// Connections of slowhttptest.
const SLOW: u32 = 400;
/// How long it attacks, in seconds.
const SECONDS: u32 = 15;
/// A clean client that waits longer than this is not served. An attack that works makes it wait for as long as the attack
/// goes on, or for ever; a busy machine alone for a second or two.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the attacker may take beyond its time: it closes its connections one by one.
const MARGIN: Duration = Duration::from_secs(120);

/// One way of being slow (`-H` headers, `-B` body, `-R` ranges, `-X` reading), with a clean client all the while.
pub fn slow(stage: &Stage, way: &str) -> Result<String> {
    let path = if way == "-X" { "/site/large" } else { "/site/length" };
    let url = format!("http://127.0.0.1:{}{path}", stage.plain);
    let (count, seconds) = (SLOW.to_string(), SECONDS.to_string());
    let mut command = Command::new("slowhttptest");
    command.args([way, "-c", &count, "-r", "200", "-l", &seconds, "-i", "3", "-p", "3", "-u", &url]);
    match way {
        "-B" => command.args(["-s", "100000", "-x", "10"]),
        "-X" => command.args(["-w", "16", "-y", "64", "-n", "3", "-z", "16", "-k", "3"]),
        _ => &mut command,
    };
    let before = stage.resident_bytes();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting slowhttptest")?;
    let out = child.stdout.take().context("no output")?;
    let reader = std::thread::spawn(move || std::io::read_to_string(out));
    let until = Instant::now() + Duration::from_secs(u64::from(SECONDS)) + MARGIN;
    let (mut served, mut worst, mut most) = (0u32, Duration::ZERO, 0);
    let verdict = loop {
        match stage.clean_request() {
            Ok(took) => (served, worst) = (served + 1, worst.max(took)),
            Err(error) => {
                break Err(error.context(format!("slowhttptest {way}: after {served} clean requests")));
            }
        }
        most = most.max(stage.resident_bytes());
        if child.try_wait()?.is_some() {
            break Ok(());
        }
        if Instant::now() > until {
            break Err(anyhow::anyhow!("slowhttptest {way} does not end"));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let _ = child.kill();
    let _ = child.wait();
    let text = reader.join().ok().and_then(Result::ok).unwrap_or_default();
    verdict?;
    // Colours stand between the words.
    if text.contains("service available") && !text.contains("YES") {
        bail!("slowhttptest {way} found the service gone: {text}");
    }
    if worst > PATIENCE {
        bail!("slowhttptest {way}: a clean client waited {worst:?}");
    }
    Ok(format!(
        "{way} {served} clean requests served, the slowest in {:.0} ms, {:+.1} MB",
        worst.as_secs_f64() * 1e3,
        (most as f64 - before as f64) / 1e6
    ))
}

/// How long testssl.sh may take.
const SCAN: Duration = Duration::from_secs(540);

/// The checks of testssl.sh that judge a server: protocols, kinds of ciphers, forward secrecy, preferences, certificate,
/// headers, known weaknesses; nothing above low. It does not pretend to be clients.
pub fn testssl(stage: &Stage) -> Result<String> {
    let report = stage.folder().join("testssl.json");
    let out = Command::new("timeout")
        .args([&SCAN.as_secs().to_string(), "testssl", "-p", "-s", "-f", "-P", "-S", "-h", "-U"])
        .args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "min", "--ip", "127.0.0.1"])
        .arg("--add-ca")
        .arg(stage.ca())
        .arg("--jsonfile")
        .arg(&report)
        .arg(format!("localhost:{}", stage.tls))
        .stdin(Stdio::null())
        .output()
        .context("starting testssl (Debian package testssl.sh)")?;
    if out.status.code() == Some(124) {
        bail!("testssl.sh did not end within {SCAN:?}");
    }
    let text = std::fs::read_to_string(&report)
        .with_context(|| format!("testssl wrote no report: {}", String::from_utf8_lossy(&out.stdout)))?;
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).context("testssl's report")?;
    let of = |severity: &[&str]| -> Vec<String> {
        let bad = |f: &&serde_json::Value| f["severity"].as_str().is_some_and(|s| severity.contains(&s));
        findings.iter().filter(bad).map(|f| format!("{}: {}", f["id"], f["finding"])).collect()
    };
    let above = of(&["MEDIUM", "HIGH", "CRITICAL", "FATAL"]);
    if !above.is_empty() {
        bail!("testssl.sh found: {above:#?}");
    }
    if findings.len() < 50 {
        bail!("testssl.sh checked only {} things", findings.len());
    }
    let low = of(&["LOW"]);
    Ok(format!(
        "{} checks, none above low; low: {}",
        findings.len(),
        if low.is_empty() { "none".to_owned() } else { low.join(", ") }
    ))
}
