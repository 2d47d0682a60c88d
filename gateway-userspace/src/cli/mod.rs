//! The command line. Everything but `run`, `check` and `version` asks the daemon over its control socket.

mod ban;
mod capture;
mod connect;
mod events;
mod feeds;
mod limits;
mod output;
mod privacy;
mod rules;
mod scenarios;
mod status;
mod why;
mod xdp;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::control::DEFAULT_SOCKET;
use crate::config::{Config, ConfigError};

pub use connect::{CallError, Control};
pub use output::Output;

/// Where the configuration is when `--config` names none.
pub const DEFAULT_CONFIG: &str = "/etc/gateway/gateway.toml";

/// What the gateway runs with when there is no configuration file.
pub const EMBEDDED_CONFIG: &str = include_str!("../../../config/default.toml");

/// Exit codes, besides 0 for success and 2 (clap's) for a command line that does not fit.
pub mod exit {
    /// The daemon refused, or what was asked for is not there.
    pub const REFUSED: u8 = 1;
    /// The configuration, a certificate or the rules are refused.
    pub const CONFIG: u8 = 3;
    /// No daemon answers on the control socket.
    pub const UNREACHABLE: u8 = 4;
    /// The system refuses: a port in use, no privileges, no such interface.
    pub const SYSTEM: u8 = 5;
}

/// An edge WAF and rate limiter with an XDP fast path.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, max_term_width = 100)]
pub struct Cli {
    /// The daemon's control socket.
    #[arg(long, global = true, value_name = "SOCKET", default_value = DEFAULT_SOCKET)]
    pub control: PathBuf,
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway in the foreground, as systemd wants it.
    Run(RunArgs),
    /// Check the configuration, the certificates and the rules, and start nothing.
    Check(ConfigArgs),
    /// How the running gateway is.
    Status,
    /// Read the configuration, the certificates and the rules again; what was is kept if anything is wrong.
    Reload,
    /// Ban, release and list addresses.
    #[command(subcommand)]
    Ban(ban::Command),
    /// Networks that are never banned.
    #[command(subcommand)]
    Allow(ban::Allow),
    /// Every reason why an address is, or was, refused or let through.
    Why {
        /// The client's address.
        address: std::net::IpAddr,
    },
    /// Lists of networks: how they stand, look anew.
    #[command(subcommand)]
    Feeds(feeds::Command),
    /// What is kept about people.
    #[command(subcommand)]
    Privacy(privacy::Command),
    /// Scenarios: list, try on a log.
    #[command(subcommand)]
    Scenarios(scenarios::Command),
    /// Rate limits.
    #[command(subcommand)]
    Limits(limits::Command),
    /// Rules: check, list, explain.
    #[command(subcommand)]
    Rules(rules::Command),
    /// The kernel side.
    #[command(subcommand)]
    Xdp(xdp::Command),
    /// Write the packets that the kernel side drops to a pcapng file.
    Capture(capture::Args),
    /// Print the version.
    Version,
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file; without it /etc/gateway/gateway.toml, and where that is missing the
    /// embedded defaults.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How to run.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Take the listening sockets from the gateway that runs with this configuration's control socket, and let it
    /// drain; where none runs, start as usual.
    #[arg(long)]
    pub take_over: bool,
}

/// A configuration and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// What was read.
    pub config: Config,
    /// The file; `None` for the embedded defaults.
    pub file: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let default = Path::new(DEFAULT_CONFIG);
        match &self.config {
            Some(file) => Ok(Loaded { config: Config::load(file)?, file: Some(file.clone()) }),
            None if default.exists() => {
                Ok(Loaded { config: Config::load(default)?, file: Some(default.to_owned()) })
            }
            None => Ok(Loaded {
                config: Config::parse(Path::new("embedded defaults"), EMBEDDED_CONFIG)?,
                file: None,
            }),
        }
    }
}

impl Cli {
    /// Runs a verb that is not the daemon itself.
    pub fn ask(&self) -> ExitCode {
        let control = Control::new(&self.control);
        let out = Output { json: self.json };
        let result = match &self.command {
            Command::Rules(command) => return rules::run(command, out),
            Command::Xdp(xdp::Command::Detach { all: true, pin, .. }) => return xdp::detach_all(pin, out),
            Command::Limits(limits::Command::Test { log, config }) => return limits::test(log, config, out),
            Command::Limits(limits::Command::Clearance { address, life, config }) => {
                return limits::clearance(*address, *life, config, out);
            }
            Command::Feeds(command) => feeds::run(command, &control, out),
            Command::Scenarios(command) => return scenarios::run(command, out),
            Command::Privacy(privacy::Command::Anonymise { files, older_than }) => {
                return privacy::anonymise(files, *older_than, out);
            }
            Command::Privacy(command) => privacy::run(command, &control, out),
            Command::Limits(command) => limits::run(command, &control, out),
            Command::Status => status::status(&control, out),
            Command::Reload => status::reload(&control, out),
            Command::Ban(command) => ban::run(command, &control, out),
            Command::Allow(command) => ban::allow(command, &control, out),
            Command::Why { address } => why::run(*address, &control, out),
            Command::Xdp(command) => xdp::run(command, &control, out),
            Command::Capture(args) => capture::run(args, &control, out),
            Command::Run(_) | Command::Check(_) | Command::Version => Ok(()),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("gateway: {e}");
                ExitCode::from(e.exit_code())
            }
        }
    }
}
