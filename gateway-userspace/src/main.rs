//! Entry point: arguments, then the daemon or a call to it.

use std::process::ExitCode;

use clap::Parser;
use gateway::app;
use gateway::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run(args) => app::run(args),
        Command::Check(args) => app::check(args).map(|checked| print!("{}", checked.report())),
        Command::Version => {
            println!("gateway {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => return cli.ask(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gateway: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
