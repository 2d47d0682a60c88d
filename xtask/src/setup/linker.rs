//! bpf-linker: one pinned version, in the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{compiler::LLVM_MAJOR, packages};
use crate::paths::Paths;
use crate::{process, ui};

/// The version of bpf-linker.
const VERSION: &str = "0.13.0";
/// LLVM's development files, as Debian and apt.llvm.org name them.
const LLVM_PACKAGES: [&str; 2] = ["llvm-22-dev", "libpolly-22-dev"];
/// The variables by which bpf-linker's and llvm-sys's build scripts find LLVM; without the first, any `llvm-config` on
/// `PATH` wins, of whatever version.
const PREFIX_VARIABLES: [&str; 2] = ["LLVM_PREFIX", "LLVM_SYS_221_PREFIX"];

/// Finds bpf-linker of the right version in the target folder or on `PATH`, or builds it into the target folder.
pub fn ensure(paths: &Paths) -> Result<PathBuf> {
    let own = paths.tool("bpf-linker");
    for candidate in std::iter::once(own.clone()).chain(process::which("bpf-linker")) {
        if version(&candidate).as_deref() == Some(VERSION) {
            ui::already("bpf-linker", &format!("{VERSION}, {}", candidate.display()));
            return Ok(candidate);
        }
    }
    ui::step("bpf-linker", || {
        install(paths)?;
        Ok::<_, anyhow::Error>(format!("built {VERSION} into {}", own.display()))
    })?;
    match version(&own).as_deref() {
        Some(VERSION) => Ok(own),
        other => bail!("{} reports version {other:?}, and {VERSION} was installed", own.display()),
    }
}

fn install(paths: &Paths) -> Result<()> {
    let prefix = llvm_prefix()?;
    ui::begins(&format!("building bpf-linker {VERSION} against {prefix} (about a minute)"));
    let mut command = process::clean_cargo(&process::cargo());
    command
        .args(["install", "--locked", "--quiet", "--no-default-features"])
        .args(["--features", &format!("llvm-{LLVM_MAJOR}")])
        .arg("--root")
        .arg(paths.tools())
        .arg(format!("bpf-linker@{VERSION}"))
        .env("CARGO_TARGET_DIR", paths.tools().join("build"))
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .envs(PREFIX_VARIABLES.map(|variable| (variable, &prefix)));
    process::quiet("bpf-linker", &mut command)
}

/// Where LLVM is installed, installing it first where that is possible.
fn llvm_prefix() -> Result<String> {
    if let Ok(prefix) = std::env::var(PREFIX_VARIABLES[0]) {
        return Ok(prefix);
    }
    let config = format!("llvm-config-{LLVM_MAJOR}");
    // llvm-config comes with llvm-22, which llvm-22-dev needs; the link also wants Polly's library.
    let complete = |prefix: &str| Path::new(prefix).join("lib/libPolly.a").exists();
    if let Ok(prefix) = process::capture(Command::new(&config).arg("--prefix"))
        && complete(prefix.trim())
    {
        return Ok(prefix.trim().to_owned());
    }
    if process::which("apt-get").is_some() && packages::available(&LLVM_PACKAGES) {
        packages::install(&LLVM_PACKAGES)?;
    } else {
        bail!(
            "LLVM {LLVM_MAJOR}'s development files are missing. Install {} (Debian 12 has them in bookworm-security; \
             elsewhere https://apt.llvm.org, or set {} to where it is), then run this again.",
            LLVM_PACKAGES.join(" "),
            PREFIX_VARIABLES[0]
        );
    }
    process::capture(Command::new(&config).arg("--prefix"))
        .map(|prefix| prefix.trim().to_owned())
        .with_context(|| format!("{} is installed, but {config} does not run", LLVM_PACKAGES[0]))
}

fn version(program: &Path) -> Option<String> {
    let text = process::capture(Command::new(program).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
