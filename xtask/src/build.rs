//! `cargo xtask build`: the eBPF object, then the daemon that carries it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::paths::Paths;
use crate::setup::compiler::{Compiler, TARGET};
use crate::setup::{self, Tools, crowdsec};
use crate::{process, ui};

/// What the eBPF crate is compiled with, beside its target: aya-ebpf asks for the architecture of the traced kernel;
/// BTF comes from debug information; CPU v3 has the atomic instructions that the limiter needs (kernel 5.12).
const EBPF_FLAGS: [&str; 4] =
    ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];

/// Arguments of `cargo xtask build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the eBPF object, which `cargo check` and `cargo test` of the daemon need
    #[arg(long)]
    ebpf_only: bool,
    /// The daemon's cargo profile: `release`, `dist` (slower to build, what ships), or `dev`
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Runs the verb.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let start = Instant::now();
    ui::heading("Building");
    ebpf(paths)?;
    if !args.ebpf_only {
        let daemon = daemon(paths, &args.profile)?;
        println!("Built {} in {}.", daemon.display(), ui::seconds(start.elapsed()));
    }
    Ok(())
}

/// Compiles the eBPF crate, setting up what that needs, and returns the object's path.
pub fn ebpf(paths: &Paths) -> Result<PathBuf> {
    let tools = setup::for_build(paths)?;
    let object = paths.ebpf_object();
    ui::step("eBPF object", || {
        process::run(&mut ebpf_command(&tools, paths, "build"))?;
        let built = paths.ebpf_target().join(TARGET).join("release").join("gateway");
        publish(&built, &object)?;
        Ok::<_, anyhow::Error>(object.display().to_string())
    })?;
    Ok(object)
}

/// A cargo command (`build`, `clippy`) on the eBPF crate with the compiler of `tools`.
pub fn ebpf_command(tools: &Tools, paths: &Paths, verb: &str) -> Command {
    let mut command = match &tools.compiler {
        Compiler::BuildStd { cargo, rustc } => {
            let mut command = process::clean_cargo(cargo);
            command.env("RUSTC", rustc).arg(verb).arg("-Zbuild-std=core");
            command
        }
        Compiler::Precompiled { rustc } => {
            let mut command = process::clean_cargo(&process::cargo());
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").arg(verb);
            command
        }
    };
    command
        .current_dir(&paths.root)
        .args(["--quiet", "--locked", "--release", "--package", "gateway-ebpf", "--target", TARGET])
        .arg("--target-dir")
        .arg(paths.ebpf_target())
        .env("CARGO_ENCODED_RUSTFLAGS", EBPF_FLAGS.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker)
        // bpf-linker does its own whole-program optimisation, and there is nothing to unwind to.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
    command
}

/// Clippy on the eBPF crate, where the toolchain of `tools` has one: a nightly does, Debian's rustc-web does not.
pub fn ebpf_clippy(tools: &Tools, paths: &Paths) -> Option<Command> {
    match &tools.compiler {
        Compiler::BuildStd { cargo, .. } if cargo.with_file_name("cargo-clippy").exists() => {
            let mut command = ebpf_command(tools, paths, "clippy");
            // Clippy brings the compiler of its own toolchain.
            command.env_remove("RUSTC");
            Some(command)
        }
        _ => None,
    }
}

/// Builds the daemon in a cargo profile and returns its path; the eBPF object must be there.
pub fn daemon(paths: &Paths, profile: &str) -> Result<PathBuf> {
    let start = Instant::now();
    ui::begins(&format!("building the daemon ({profile})"));
    process::run(host_cargo(paths).args(["build", "--locked", "--bin", "gateway", "--profile", profile]))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let daemon = paths.target.join(folder).join("gateway");
    ui::done("daemon", &daemon.display().to_string(), start.elapsed());
    Ok(daemon)
}

/// The daemon that a command measures or asks: the one given, else the release build, made first.
pub fn release(given: Option<&Path>, paths: &Paths) -> Result<PathBuf> {
    match given {
        Some(file) => file.canonicalize().with_context(|| format!("there is no {}", file.display())),
        None => {
            ebpf(paths)?;
            daemon(paths, "release")
        }
    }
}

/// The workspace's own cargo, in the root; the daemon's build script finds the eBPF object below the target folder.
pub fn host_cargo(paths: &Paths) -> Command {
    let mut command = Command::new(process::cargo());
    command.current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target);
    // What setup unpacked for the tests, behind what is installed.
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(crowdsec::programs(paths));
    command.env("PATH", path);
    command
}

/// Copies the object to where the daemon's build looks, only when it changed: its time is what cargo watches.
fn publish(built: &Path, object: &Path) -> Result<()> {
    let new = std::fs::read(built).with_context(|| format!("the compiler left no {}", built.display()))?;
    if std::fs::read(object).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(folder) = object.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // A reader never sees half an object.
    let partial = object.with_extension("o.partial");
    std::fs::write(&partial, new).with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, object).with_context(|| format!("cannot write {}", object.display()))
}
