//! A browser: a page with scripts, fetches and a WebSocket, over HTTP/2.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::stage::Stage;

/// Chromium without a window. The page writes down what it did; the console must stay empty of errors.
pub fn chromium(stage: &Stage) -> Result<String> {
    let profile = stage.folder.join("chromium");
    std::fs::create_dir_all(&profile)?;
    let out = Command::new("timeout")
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
        .args(["--ignore-certificate-errors", "--enable-logging=stderr", "--virtual-time-budget=15000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--dump-dom")
        .arg(format!("https://localhost:{}/site/page", stage.tls))
        .output()
        .context("starting chromium")?;
    let (page, log) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let console: Vec<&str> = log.lines().filter(|l| l.contains("CONSOLE")).collect();
    let result = page.split("id=\"result\">").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or("");
    let told: serde_json::Value = serde_json::from_str(&result.replace("&quot;", "\"")).unwrap_or_default();
    let expected = serde_json::json!({
        "protocol": "h2", "fetched": 1_048_576, "posted": "300000", "many": 40, "socket": "hello"
    });
    if told != expected {
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        bail!("the page says: {result:?}; console: {console:?}; log, newest first: {tail:#?}");
    }
    if !console.is_empty() {
        bail!("the console says: {console:#?}");
    }
    Ok("page over h2, 43 requests and a WebSocket, nothing in the console".to_owned())
}
