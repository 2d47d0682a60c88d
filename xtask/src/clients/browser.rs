//! A browser: a page with scripts, fetches and a WebSocket, over HTTP/2.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::stage::Stage;

/// How long the page may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium without a window. The page writes down what it did; the console must stay empty of errors.
pub fn chromium(stage: &Stage) -> Result<String> {
    let profile = stage.folder().join("chromium");
    std::fs::create_dir_all(&profile)?;
    let report = stage.folder().join("report");
    let log_file = stage.folder().join("chromium.log");
    let mut child = Command::new("timeout")
        .args([
            "90",
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--ignore-certificate-errors", "--enable-logging=stderr", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("https://localhost:{}/site/page", stage.tls))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log_file)?)
        .spawn()
        .context("starting chromium")?;
    let until = Instant::now() + PATIENCE;
    while !report.exists() && Instant::now() < until && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(100));
    }
    // The console may still be talking.
    std::thread::sleep(Duration::from_secs(1));
    // `timeout` passes the signal on to the browser.
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let _ = child.wait();
    let log = std::fs::read(&log_file).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let console: Vec<&str> = log.lines().filter(|l| l.contains("CONSOLE")).collect();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let expected = serde_json::json!({
        "protocol": "h2", "fetched": 1_048_576, "posted": "300000", "many": 40, "socket": "hello"
    });
    if told != expected {
        let tail: Vec<&str> = log.lines().rev().filter(|l| !l.contains("dbus")).take(15).collect();
        bail!("the page says: {text:?}; console: {console:?}; log, newest first: {tail:#?}");
    }
    if !console.is_empty() {
        bail!("the console says: {console:#?}");
    }
    Ok("page over h2, 45 requests and a WebSocket, nothing in the console".to_owned())
}
