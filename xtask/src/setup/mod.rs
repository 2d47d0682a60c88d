//! `cargo xtask setup`: everything that build and tests need, installed once and found again afterwards.
//!
//! Each part first looks for what is there, then installs, and where it can't it says what to install. A second run
//! with nothing to do takes under a second.

pub mod compiler;
pub mod crowdsec;
pub mod linker;
pub mod packages;
pub mod python;

use std::time::Instant;

use anyhow::Result;

use crate::paths::Paths;
use crate::ui;
use compiler::Compiler;
use packages::Group;

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what `cargo xtask build` needs
    #[arg(long)]
    build_only: bool,
}

/// What a finished setup hands to the build.
#[derive(Debug)]
pub struct Tools {
    /// The compiler of the eBPF crate.
    pub compiler: Compiler,
    /// The path of bpf-linker.
    pub linker: std::path::PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let start = Instant::now();
    ui::heading("Setting up");
    for_build(paths)?;
    if !args.build_only {
        packages::ensure(&[Group::Test, Group::Clients, Group::Vm])?;
        python::ensure(paths)?;
    }
    println!("Set up in {}.", ui::seconds(start.elapsed()));
    Ok(())
}

/// Makes sure that the eBPF crate can be compiled and linked.
pub fn for_build(paths: &Paths) -> Result<Tools> {
    packages::ensure(&[Group::Build])?;
    let compiler = compiler::ensure()?;
    let linker = linker::ensure(paths)?;
    Ok(Tools { compiler, linker })
}

/// Makes sure that the end-to-end tests have their programs.
pub fn for_tests(paths: &Paths) -> Result<()> {
    packages::ensure(&[Group::Test])?;
    python::ensure(paths)?;
    crowdsec::ensure(paths)
}

/// Makes sure that the real clients of `clients` are there.
pub fn for_clients(paths: &Paths) -> Result<()> {
    packages::ensure(&[Group::Clients])?;
    python::ensure(paths)
}

/// Makes sure that a virtual machine can be built and started.
pub fn for_vm() -> Result<()> {
    packages::ensure(&[Group::Test, Group::Vm])
}
