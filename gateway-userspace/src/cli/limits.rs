//! `gateway limits`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{field, table};
use super::{CallError, ConfigArgs, Control, Output, exit};
use crate::limits::{Clearances, MAX_LIFE_S, dry_run};

/// The verbs of `gateway limits`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every limit with its quota and what it decided.
    List,
    /// How a client stands with the limits.
    Show(Subject),
    /// Forget what was counted of a client.
    Reset(Subject),
    /// A cookie that shows that a client has passed the challenge, as the challenge itself makes it; asks no gateway.
    Clearance {
        /// The client's address.
        address: IpAddr,
        /// For how long: 1s to 1d.
        #[arg(long = "for", default_value = "1h", value_parser = super::ban::duration)]
        life: Duration,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Who would have been refused, from an access log; asks no gateway.
    Test {
        /// This gateway's JSON access log, or a combined one of nginx or Apache.
        log: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Whose counters.
#[derive(Debug, clap::Args)]
pub struct Subject {
    /// Parts of the key: address=192.0.2.1, header:x-key=abc, cookie:sid=1, query:q=1, path=/x, route=NAME, host=NAME.
    #[arg(required = true)]
    parts: Vec<String>,
    /// Only this limit.
    #[arg(long)]
    limit: Option<String>,
}

impl Subject {
    fn body(&self) -> Value {
        json!({ "subject": self.parts, "limit": self.limit })
    }
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::List => out.print(&control.get("/v1/limits")?, |v| {
            let rows: Vec<Vec<String>> = v
                .as_array()
                .into_iter()
                .flatten()
                .map(|l| {
                    let columns =
                        ["name", "quota", "window_ms", "algorithm", "mode"].iter().map(|n| field(l, n));
                    columns.chain(["allowed", "refused", "shadowed"].iter().map(|o| decided(l, o))).collect()
                })
                .collect();
            let head =
                ["NAME", "QUOTA", "WINDOW (MS)", "ALGORITHM", "MODE", "ALLOWED", "REFUSED", "SHADOWED"];
            table(&head, &rows)
        }),
        Command::Show(subject) => out.print(&control.post("/v1/limits/show", &subject.body())?, |v| {
            let rows: Vec<Vec<String>> = v
                .as_array()
                .into_iter()
                .flatten()
                .map(|l| ["limit", "remaining", "reset_ms"].iter().map(|n| field(l, n)).collect())
                .collect();
            table(&["LIMIT", "REMAINING", "RESET (MS)"], &rows)
        }),
        Command::Reset(subject) => out.print(&control.post("/v1/limits/reset", &subject.body())?, |v| {
            let names: Vec<String> = v
                .as_array()
                .into_iter()
                .flatten()
                .map(|n| n.as_str().unwrap_or_default().to_owned())
                .collect();
            format!("forgotten: {}\n", names.join(", "))
        }),
        // Those ask no gateway.
        Command::Test { .. } | Command::Clearance { .. } => {}
    }
    Ok(())
}

/// How often a limit decided so.
fn decided(limit: &Value, outcome: &str) -> String {
    let pairs = limit["decisions"].as_array().into_iter().flatten();
    let count = pairs.filter(|pair| pair[0] == outcome).find_map(|pair| pair[1].as_u64());
    count.unwrap_or_default().to_string()
}

/// `limits clearance`: no gateway is asked.
pub fn clearance(address: IpAddr, life: Duration, config: &ConfigArgs, out: Output) -> ExitCode {
    let wrong = |e: &dyn std::fmt::Display| {
        eprintln!("gateway: {e}");
        ExitCode::from(exit::CONFIG)
    };
    let challenge = match config.load() {
        Ok(loaded) => loaded.config.limits.challenge,
        Err(e) => return wrong(&e),
    };
    let Some(challenge) = challenge else {
        return wrong(&"no [limit_challenge] is configured: there is nothing to be cleared of");
    };
    let clearances = match Clearances::read(&challenge) {
        Ok(clearances) => clearances,
        Err(e) => return wrong(&e),
    };
    let mut random = [0_u8; 12];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        return wrong(&"the system gives no random bytes");
    }
    let nonce = random.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expires_s = now_s + life.as_secs().clamp(1, MAX_LIFE_S);
    let (name, value) = (clearances.cookie(), clearances.issue(address.to_canonical(), &nonce, expires_s));
    let shown = json!({ "cookie": name, "value": value, "expires_s": expires_s });
    out.print(&shown, |_| format!("{name}={value}\n"));
    ExitCode::SUCCESS
}

/// `limits test`: no gateway is asked.
pub fn test(log: &PathBuf, config: &ConfigArgs, out: Output) -> ExitCode {
    let limits = match config.load() {
        Ok(loaded) => loaded.config.limits,
        Err(e) => {
            eprintln!("gateway: {e}");
            return ExitCode::from(exit::CONFIG);
        }
    };
    let run = std::fs::File::open(log).and_then(|f| dry_run(&limits, &mut std::io::BufReader::new(f)));
    match run {
        Ok(report) => {
            let value = serde_json::to_value(&report).unwrap_or_default();
            out.print(&value, |_| {
                let rows: Vec<Vec<String>> = report
                    .limits
                    .iter()
                    .map(|l| {
                        let clients: Vec<String> =
                            l.clients.iter().map(|(a, n)| format!("{a} ({n})")).collect();
                        vec![l.limit.clone(), l.refused.to_string(), clients.join(", ")]
                    })
                    .collect();
                format!(
                    "{} requests, {} refused, {} lines unreadable\n{}",
                    report.requests,
                    report.refused,
                    report.unreadable,
                    table(&["LIMIT", "REFUSED", "CLIENTS"], &rows)
                )
            });
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("gateway: {}: {e}", log.display());
            ExitCode::from(exit::REFUSED)
        }
    }
}
