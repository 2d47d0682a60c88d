//! The compiler of the eBPF crate.
//!
//! The BPF target has no precompiled `core` in rustup's stable toolchains. Two ways lead to one:
//!
//! 1. a nightly toolchain with the rust-src component compiles `core` itself (`-Zbuild-std=core`);
//! 2. Debian's `rustc-web` and `libstd-rust-web-dev-bpf` bring `core` compiled for `bpfel-unknown-none`.
//!
//! What is installed already wins, in this order; then what can be installed. Either way the compiler's LLVM must not be
//! newer than bpf-linker's, or the linker can't read its bitcode.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::packages;
use crate::{process, ui};

/// The nightly that is installed where none is there: the last one whose LLVM is [`LLVM_MAJOR`] and that was tried.
const NIGHTLY: &str = "nightly-2026-05-20";
/// LLVM's major version in bpf-linker, and so the newest that the compiler may have.
pub const LLVM_MAJOR: u32 = 22;
/// The oldest LLVM whose BPF back end compiles the programs.
const LLVM_OLDEST: u32 = 20;
/// Debian's packages of the second way.
const DEBIAN: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
/// The target of the eBPF crate.
pub const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build the eBPF crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// A rustup toolchain with rust-src: the path of its cargo.
    BuildStd {
        /// The toolchain's `cargo`.
        cargo: PathBuf,
        /// The toolchain's `rustc`.
        rustc: PathBuf,
    },
    /// A rustc that has `core` for the target: its path; any cargo drives it.
    Precompiled {
        /// The system's `rustc`.
        rustc: PathBuf,
    },
}

/// Finds the compiler, or installs it.
pub fn ensure() -> Result<Compiler> {
    let mut refused = Vec::new();
    if let Some((compiler, name)) = find(&mut refused) {
        ui::already("eBPF compiler", &name);
        return Ok(compiler);
    }
    for reason in &refused {
        ui::note(reason);
    }
    ui::step("eBPF compiler", || install(&mut refused).map(|()| "installed".to_owned()))?;
    match find(&mut refused) {
        Some((compiler, name)) => {
            ui::already("eBPF compiler", &name);
            Ok(compiler)
        }
        None => bail!("the eBPF compiler was installed but does not work: {}", refused.join("; ")),
    }
}

/// The compiler to use and a name to print, of what is installed.
fn find(refused: &mut Vec<String>) -> Option<(Compiler, String)> {
    find_nightly(refused).or_else(|| find_precompiled(refused))
}

fn find_nightly(refused: &mut Vec<String>) -> Option<(Compiler, String)> {
    process::which("rustup")?;
    let list = process::capture(Command::new("rustup").args(["toolchain", "list"])).ok()?;
    for name in list.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| is_nightly(name))
    {
        let Some(rustc) = rustup_which(name, "rustc") else { continue };
        let Ok(sysroot) = process::capture(Command::new(&rustc).args(["--print", "sysroot"])) else {
            continue;
        };
        if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").exists() {
            refused
                .push(format!("{name} has no rust-src (rustup component add rust-src --toolchain {name})"));
            continue;
        }
        let Some(cargo) = rustup_which(name, "cargo") else { continue };
        match llvm_fits(&rustc) {
            Ok(version) => {
                return Some((
                    Compiler::BuildStd { cargo, rustc },
                    format!("{name}, LLVM {version}, build-std"),
                ));
            }
            Err(reason) => refused.push(format!("{name}: {reason}")),
        }
    }
    None
}

fn find_precompiled(refused: &mut Vec<String>) -> Option<(Compiler, String)> {
    // Not PATH's rustc: that one is rustup's.
    let rustc = PathBuf::from("/usr/bin/rustc");
    if !rustc.exists() {
        return None;
    }
    let folder =
        process::capture(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET])).ok()?;
    let has_core = std::fs::read_dir(folder.trim()).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if !has_core {
        refused.push(format!("{} has no core for {TARGET}", rustc.display()));
        return None;
    }
    match llvm_fits(&rustc) {
        Ok(version) => {
            let name = format!("{}, LLVM {version}, precompiled core", rustc.display());
            Some((Compiler::Precompiled { rustc }, name))
        }
        Err(reason) => {
            refused.push(format!("{}: {reason}", rustc.display()));
            None
        }
    }
}

fn install(refused: &mut Vec<String>) -> Result<()> {
    packages::refresh_if_empty()?;
    if process::which("apt-get").is_some() && packages::available(&DEBIAN) {
        return packages::install(&DEBIAN);
    }
    if process::which("rustup").is_some() {
        let mut command = Command::new("rustup");
        command.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"]);
        match process::quiet(&format!("rustup toolchain install {NIGHTLY}"), &mut command) {
            Ok(()) => return Ok(()),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    bail!(
        "no compiler for {TARGET}. Either `rustup toolchain install {NIGHTLY} --profile minimal --component rust-src`, or \
         on Debian 12 with bookworm-security `apt-get install {}`; then run this again.",
        DEBIAN.join(" ")
    )
}

fn rustup_which(toolchain: &str, program: &str) -> Option<PathBuf> {
    process::capture(Command::new("rustup").args(["which", "--toolchain", toolchain, program]))
        .ok()
        .map(|path| PathBuf::from(path.trim()))
}

/// The LLVM version of `rustc`, when bpf-linker can read what it writes.
fn llvm_fits(rustc: &Path) -> Result<String> {
    let text = process::capture(Command::new(rustc).arg("-vV"))?;
    let version = llvm_version(&text).context("`rustc -vV` names no LLVM version")?;
    let major: u32 = version.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0);
    if !(LLVM_OLDEST..=LLVM_MAJOR).contains(&major) {
        bail!("its LLVM is {version}, and bpf-linker here reads {LLVM_OLDEST} to {LLVM_MAJOR}");
    }
    Ok(version)
}

fn llvm_version(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("LLVM version:")).map(|version| version.trim().to_owned())
}

fn is_nightly(toolchain: &str) -> bool {
    toolchain.starts_with("nightly")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_version_is_read_from_rustc() {
        for (text, expected) in [
            ("rustc 1.96.0\nbinary: rustc\nLLVM version: 22.1.8\n", Some("22.1.8")),
            ("rustc 1.96.0\n", None),
        ] {
            assert_eq!(llvm_version(text).as_deref(), expected);
        }
    }

    #[test]
    fn nightlies_are_known_by_name() {
        for (name, expected) in [
            ("nightly-x86_64-unknown-linux-gnu", true),
            ("nightly-2026-05-20-x86_64-unknown-linux-gnu", true),
            ("1.95.0-x86_64-unknown-linux-gnu", false),
            ("stable-x86_64-unknown-linux-gnu", false),
        ] {
            assert_eq!(is_nightly(name), expected, "{name}");
        }
    }
}
