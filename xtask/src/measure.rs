//! `bench` and `crs` link the engine itself and only mean something optimised: they run from a second build of xtask, in
//! the release profile with the `measure` feature, so that every other verb compiles in seconds.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::build;
use crate::paths::Paths;

/// The words after the verb, as they are: the other build parses them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on; `--help` too
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    words: Vec<String>,
}

/// Builds xtask for measuring and runs the verb in it.
pub fn run(verb: &str, args: &Args, paths: &Paths) -> Result<ExitCode> {
    let status = build::host_cargo(paths)
        .args([
            "run",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "xtask",
            "--features",
            "measure",
            "--",
            verb,
        ])
        .args(&args.words)
        .status()
        .context("cannot start cargo")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
