//! cargo-deny with deny.toml: licences, duplicate versions, sources; advisories where their database can be reached.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::{build, process, ui};

/// The version of cargo-deny.
const VERSION: &str = "0.20.2";
/// Where advisories come from, as in deny.toml.
const DATABASE: &str = "https://github.com/rustsec/advisory-db";

/// Runs cargo-deny, installing it first where it is missing.
pub fn check(paths: &Paths) -> Result<String> {
    let program = ensure(paths)?;
    let mut sections = vec!["licenses", "bans", "sources"];
    let reachable = database_is_reachable();
    if reachable {
        sections.push("advisories");
    } else {
        ui::note(&format!("advisories are not checked: {DATABASE} can't be reached from here"));
    }
    let mut command = build::host_cargo(paths);
    command.args(["metadata", "--locked", "--format-version", "1", "--all-features"]);
    let metadata = paths.target.join("metadata.json");
    std::fs::write(&metadata, process::capture(&mut command)?)?;
    process::run(
        Command::new(&program)
            .current_dir(&paths.root)
            .arg("--log-level=warn")
            .arg("--metadata-path")
            .arg(&metadata)
            .arg("check")
            .arg("--hide-inclusion-graph")
            .args(&sections),
    )?;
    Ok(format!("cargo-deny {VERSION}: {}", sections.join(", ")))
}

fn ensure(paths: &Paths) -> Result<std::path::PathBuf> {
    let own = paths.tool("cargo-deny");
    for candidate in std::iter::once(own.clone()).chain(process::which("cargo-deny")) {
        if version(&candidate).as_deref() == Some(VERSION) {
            return Ok(candidate);
        }
    }
    ui::begins(&format!("building cargo-deny {VERSION} (once, some minutes)"));
    let mut command = process::clean_cargo(&process::cargo());
    command
        .args(["install", "--locked", "--quiet", "--root"])
        .arg(paths.tools())
        .arg(format!("cargo-deny@{VERSION}"))
        .env("CARGO_TARGET_DIR", paths.tools().join("build"))
        // It runs for seconds: the time goes into compiling it.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    process::quiet("cargo-deny", &mut command)?;
    match version(&own).as_deref() {
        Some(VERSION) => Ok(own),
        other => bail!("{} reports version {other:?}, and {VERSION} was installed", own.display()),
    }
}

fn version(program: &Path) -> Option<String> {
    let text = process::capture(Command::new(program).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

fn database_is_reachable() -> bool {
    let mut command = Command::new("timeout");
    command.args(["15", "git", "ls-remote", "--quiet", DATABASE, "HEAD"]).env("GIT_TERMINAL_PROMPT", "0");
    process::capture(&mut command).is_ok()
}
