//! Load generators: here for whether everything is answered; the speed is `cargo xtask bench proxy`'s matter.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::output;
use super::stage::Stage;

/// HTTP/2 over TLS, 20,000 requests on 10 connections.
pub fn h2load(stage: &Stage) -> Result<String> {
    let url = format!("https://127.0.0.1:{}/", stage.tls);
    let text = output(Command::new("h2load").args(["-n20000", "-c10", "-m32", &url]))?;
    let line = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap_or("");
    if !line("requests:").contains("20000 succeeded, 0 failed, 0 errored, 0 timeout")
        || !line("status codes:").contains("20000 2xx")
    {
        bail!("h2load says: {text}");
    }
    Ok(format!("20,000 requests, none failed; {}", line("finished in").trim_start_matches("finished in ")))
}

/// HTTP/1.1, without and with TLS.
pub fn wrk(stage: &Stage) -> Result<String> {
    let plain = run_wrk(&format!("http://127.0.0.1:{}/", stage.plain), &[])?;
    let tls = run_wrk(&format!("https://127.0.0.1:{}/", stage.tls), &[])?;
    Ok(format!("{plain} without and {tls} with TLS, no errors"))
}

/// POST of 1 MiB.
pub fn wrk_uploads(stage: &Stage) -> Result<String> {
    let script = stage.folder().join("upload.lua");
    std::fs::write(&script, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", 1048576)\n")?;
    let url = format!("http://127.0.0.1:{}/site/length", stage.plain);
    let rate = run_wrk(&url, &["-s", &script.display().to_string()])?;
    Ok(format!("{rate} of 1 MiB, no errors"))
}

fn run_wrk(url: &str, extra: &[&str]) -> Result<String> {
    let text = output(Command::new("wrk").args(["-t1", "-c16", "-d3s"]).args(extra).arg(url))?;
    if let Some(line) = text.lines().find(|l| l.contains("Non-2xx") || l.contains("Socket errors")) {
        bail!("wrk {url}: {}", line.trim());
    }
    let rate = text.lines().find_map(|l| l.strip_prefix("Requests/sec:")).context("wrk told no rate")?;
    Ok(format!("{} req/s", rate.trim()))
}
