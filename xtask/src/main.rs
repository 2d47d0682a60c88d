//! Project automation: `cargo xtask VERB`.

mod bench;
mod build;
mod crs;
mod paths;
mod process;
mod setup;
mod ui;

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
    /// Measure against peers on this machine
    Bench(bench::Args),
    /// Run go-ftw suites against the WAF, in this process or through a daemon
    Crs(crs::Args),
}

fn main() -> ExitCode {
    let paths = paths::Paths::find();
    let result = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args, &paths),
        Verb::Build(args) => build::run(&args, &paths),
        Verb::Bench(args) => match bench::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Verb::Crs(args) => match crs::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
