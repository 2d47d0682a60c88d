//! `gateway privacy`: what is kept about an address, its end, and logs without addresses.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::field;
use super::{CallError, Control, Output, exit};
use crate::bans::anonymise::{anonymise_line, line_time};
use crate::client::IpNetwork;
use crate::config::duration::parse_duration;

/// Longest line that is looked at as one, in bytes; what is beyond is treated as the next.
const MAX_LINE: u64 = 1 << 20;

/// The verbs of `gateway privacy`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything that is kept about an address or a network, as JSON.
    Export {
        /// An address or a network.
        network: IpNetwork,
    },
    /// Forget what is kept about an address or a network; decisions that hold stay.
    Erase {
        /// An address or a network.
        network: IpNetwork,
    },
    /// Take the addresses out of log files that nobody writes to any more: each becomes its /24 or /48.
    Anonymise {
        /// Rotated, uncompressed logs; each is replaced whole or not at all.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Leave younger lines alone; a line without a time counts as old.
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
        older_than: Duration,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a whole number and a unit, such as 30m, 2h or 7d".to_owned())
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::Export { network } => {
            let answer = control.post("/v1/privacy/export", &json!({ "network": network }))?;
            out.print(&answer, |v| format!("{v:#}\n"));
        }
        Command::Erase { network } => {
            let answer = control.post("/v1/privacy/erase", &json!({ "network": network }))?;
            out.print(&answer, |v| {
                format!(
                    "erased: {} ended decisions, the offences of {} clients; {} decisions hold and stay until they end\n",
                    field(v, "ended"),
                    field(v, "clients"),
                    field(v, "kept")
                )
            });
        }
        // Asks no gateway: see `anonymise`.
        Command::Anonymise { .. } => {}
    }
    Ok(())
}

/// `privacy anonymise`: no gateway is asked.
pub(super) fn anonymise(files: &[PathBuf], older_than: Duration, out: Output) -> ExitCode {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let before_ms = now_ms.saturating_sub(older_than.as_millis() as u64);
    let mut done: Vec<Value> = Vec::new();
    for file in files {
        match rewrite(file, before_ms) {
            Ok((lines, addresses)) => {
                done.push(json!({ "file": file, "lines": lines, "addresses": addresses }));
            }
            Err(e) => {
                eprintln!("gateway: {}: {e}. The file is as it was.", file.display());
                return ExitCode::from(exit::SYSTEM);
            }
        }
    }
    out.print(&Value::Array(done), |v| {
        let line = |f: &Value| {
            format!(
                "{}: {} addresses in {} lines\n",
                field(f, "file"),
                field(f, "addresses"),
                field(f, "lines")
            )
        };
        v.as_array().into_iter().flatten().map(line).collect()
    });
    ExitCode::SUCCESS
}

/// Writes the file anew beside itself and puts that in its place; lines and addresses changed.
fn rewrite(file: &Path, before_ms: u64) -> std::io::Result<(u64, usize)> {
    let from = File::open(file)?;
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".anonymous-{}", std::process::id()));
    let beside = PathBuf::from(name);
    let result = (|| {
        let to = File::options().write(true).create_new(true).open(&beside)?;
        to.set_permissions(from.metadata()?.permissions())?;
        let mut to = BufWriter::new(to);
        let counts = copy(&mut BufReader::new(&from), &mut to, before_ms)?;
        to.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&beside, file)?;
        Ok(counts)
    })();
    if result.is_err() {
        // What is half written is of no use.
        let _gone = std::fs::remove_file(&beside);
    }
    result
}

fn copy(from: &mut dyn BufRead, to: &mut dyn Write, before_ms: u64) -> std::io::Result<(u64, usize)> {
    let (mut line, mut changed) = (Vec::new(), Vec::new());
    let (mut lines, mut addresses) = (0, 0);
    loop {
        line.clear();
        if from.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok((lines, addresses));
        }
        if line_time(&line).is_some_and(|at| at >= before_ms) {
            to.write_all(&line)?;
            continue;
        }
        changed.clear();
        let found = anonymise_line(&line, &mut changed);
        lines += u64::from(found > 0);
        addresses += found;
        to.write_all(&changed)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_lose_their_addresses_and_young_ones_keep_them() {
        let file = std::env::temp_dir().join(format!("gateway-anonymise-{}.log", std::process::id()));
        let line = |second: u32| {
            format!("{{\"time\":\"1970-01-01T00:00:{second:02}Z\",\"client\":\"192.0.2.66\"}}\n")
        };
        let text = line(1) + &line(5) + "no time, 192.0.2.9\n";
        std::fs::write(&file, &text).expect("log");
        assert_eq!(rewrite(&file, 3000).expect("rewritten"), (2, 2));
        let now = std::fs::read_to_string(&file).expect("log");
        assert_eq!(now, line(1).replace(".66", ".0") + &line(5) + "no time, 192.0.2.0\n");
        std::fs::remove_file(&file).expect("removed");
        assert!(rewrite(&file, 3000).is_err());
    }
}
