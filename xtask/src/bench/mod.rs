//! `cargo xtask bench WHAT`: measurements against peers on this machine.

pub mod waf;

use std::process::ExitCode;

use anyhow::Result;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The WAF engine against libmodsecurity on the same rules
    Waf(waf::Args),
}

/// Measures; the exit code says whether the goals were met.
///
/// # Errors
/// What keeps the measurement from being made.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Waf(args) => waf::run(args),
    }
}
