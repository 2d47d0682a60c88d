//! Project automation: `cargo xtask VERB`.

#[cfg(feature = "measure")]
mod bench;
mod build;
mod check;
mod clients;
#[cfg(feature = "measure")]
mod crs;
mod demo;
mod fuzz;
#[cfg(not(feature = "measure"))]
mod measure;
mod package;
mod paths;
mod process;
mod run;
mod server;
mod setup;
mod test;
mod ui;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, build, run, test, measure and package the gateway.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what build and tests need, or say what to install
    Setup(setup::Args),
    /// Compile the eBPF object and the daemon
    Build(build::Args),
    /// Format, lints, licences, levels of modules, file lengths, unsafe code
    Check(check::Args),
    /// Set up, build and start a gateway to play with
    Run(run::Args),
    /// The whole story in network namespaces, in under a minute (root)
    Demo,
    /// The daemon as a Debian package and as an archive
    Package(package::Args),
    /// The whole suite: unit tests, then end-to-end tests in network namespaces (root)
    Test(test::Args),
    /// Real clients through the daemon to real servers, attackers' tools among them
    Clients(clients::Args),
    /// Load, attach and drop on Debian's kernel, in a virtual machine
    VmTest(vm::Args),
    /// Every fuzz target for a bounded time
    Fuzz(fuzz::Args),
    /// Measure against peers on this machine
    #[cfg(feature = "measure")]
    Bench(bench::Args),
    /// Measure against peers on this machine
    #[cfg(not(feature = "measure"))]
    #[command(disable_help_flag = true)]
    Bench(measure::Args),
    /// Run go-ftw suites against the WAF, in this process or through a daemon
    #[cfg(feature = "measure")]
    Crs(crs::Args),
    /// Run go-ftw suites against the WAF, in this process or through a daemon
    #[cfg(not(feature = "measure"))]
    #[command(disable_help_flag = true)]
    Crs(measure::Args),
}

fn main() -> ExitCode {
    let paths = paths::Paths::find();
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    let result = match Cli::parse().verb {
        Verb::Setup(args) => done(setup::run(&args, &paths)),
        Verb::Build(args) => done(build::run(&args, &paths)),
        Verb::Check(args) => done(check::run(&args, &paths)),
        Verb::Run(args) => done(run::run(&args, &paths)),
        Verb::Fuzz(args) => done(fuzz::run(&args, &paths)),
        Verb::Demo => done(demo::run(&paths)),
        Verb::Package(args) => done(package::run(&args, &paths)),
        Verb::Test(args) => done(test::run(&args, &paths)),
        Verb::Clients(args) => done(clients::run(&args, &paths)),
        Verb::VmTest(args) => done(vm::run(&args, &paths)),
        #[cfg(feature = "measure")]
        Verb::Bench(args) => bench::run(&args),
        #[cfg(feature = "measure")]
        Verb::Crs(args) => crs::run(&args),
        #[cfg(not(feature = "measure"))]
        Verb::Bench(args) => measure::run("bench", &args, &paths),
        #[cfg(not(feature = "measure"))]
        Verb::Crs(args) => measure::run("crs", &args, &paths),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
