//! `gateway scenarios`: who would have been banned, from an access log. Asks no gateway.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{field, table};
use super::{ConfigArgs, Output, exit};
use crate::bans::Spared;
use crate::bans::dryrun::{DryRun, dry_run};
use crate::config::Config;

/// The verbs of `gateway scenarios`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The scenarios of the configuration, the default ones among them.
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Who would have been banned, when and why, and which of their requests were no offences.
    Test {
        /// This gateway's JSON access log.
        log: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn run(command: &Command, out: Output) -> ExitCode {
    let (Command::List { config } | Command::Test { config, .. }) = command;
    let config = match config.load() {
        Ok(loaded) => loaded.config,
        Err(e) => {
            eprintln!("gateway: {e}");
            return ExitCode::from(exit::CONFIG);
        }
    };
    match command {
        Command::List { .. } => list(&config, out),
        Command::Test { log, .. } => match test(&config, log) {
            Ok(report) => tell(&report, out),
            Err(e) => {
                eprintln!("gateway: {}: {e}", log.display());
                return ExitCode::from(exit::REFUSED);
            }
        },
    }
    ExitCode::SUCCESS
}

fn list(config: &Config, out: Output) {
    let all: Vec<Value> = config
        .bans
        .scenarios
        .iter()
        .map(|s| {
            let kinds: Vec<&str> = s.kinds.iter().map(|k| k.name()).collect();
            json!({
                "name": s.name, "kinds": kinds, "subjects": s.subjects, "by": s.by, "capacity": s.capacity,
                "leak_ms": s.leak.as_millis() as u64, "weighed": s.weighed, "share": s.share,
                "action": s.action, "length_ms": s.length.as_millis() as u64,
            })
        })
        .collect();
    out.print(&Value::Array(all), |v| {
        let columns = ["name", "kinds", "by", "capacity", "leak_ms", "share", "action", "length_ms"];
        let rows: Vec<Vec<String>> =
            v.as_array().into_iter().flatten().map(|s| columns.map(|c| field(s, c)).to_vec()).collect();
        table(&["NAME", "KINDS", "BY", "CAPACITY", "LEAK (MS)", "SHARE (%)", "ACTION", "LENGTH (MS)"], &rows)
    });
}

fn test(config: &Config, log: &Path) -> std::io::Result<DryRun> {
    let lines = BufReader::new(std::fs::File::open(log)?).split(b'\n');
    let mut broken = None;
    // A line that is no text is read as one that is no request; a disk that fails ends the log.
    let lines = lines
        .map_while(|line| line.map_err(|e| broken = Some(e)).ok())
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| String::from_utf8_lossy(&line).into_owned());
    let spared = Spared {
        allow: config.kernel.allow.clone(),
        trusted_proxies: config.edge.client.trusted_proxies.clone(),
        own: Vec::new(),
    };
    let report = dry_run(&config.bans, spared.guard(&config.bans), lines);
    broken.map_or(Ok(report), Err)
}

fn tell(report: &DryRun, out: Output) {
    let value = serde_json::to_value(report).unwrap_or_default();
    out.print(&value, |v| {
        let offences: Vec<String> = report.offences.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let rows: Vec<Vec<String>> = report
            .decisions
            .iter()
            .map(|d| vec![d.start_ms.to_string(), d.scope.to_string(), d.action.to_string(), d.reason.to_string()])
            .collect();
        format!(
            "{} requests, {} lines unreadable; offences: {}\n{} decisions would have refused {} requests, {} of them no offences\n{}",
            field(v, "requests"),
            field(v, "unreadable"),
            if offences.is_empty() { "none".to_owned() } else { offences.join(", ") },
            field(v, "decided"),
            field(v, "refused"),
            field(v, "refused_clean"),
            table(&["UNIX TIME (MS)", "SCOPE", "ACTION", "REASON"], &rows)
        )
    });
}
