//! `gateway ban`, `gateway allow` and `gateway why`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};

use super::connect::encode_segment;
use super::output::{field, table};
use super::{CallError, Control, Output};
use crate::bans::dryrun::rfc3339_ms;
use crate::client::IpNetwork;
use crate::config::duration::parse_duration;

/// The verbs of `gateway ban`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ban an address, a network, `asn:N`, `country:XX` or `ja4:F`.
    Add {
        /// Such as 192.0.2.1, 192.0.2.0/24, 2001:db8::/48, asn:64496, country:FR.
        scope: String,
        /// How long, such as 30m, 2h or 7d.
        #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration)]
        duration: Duration,
        /// Until then, in UTC, such as 2026-12-24 or 2026-12-24T18:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "duration")]
        until: Option<u64>,
        /// Until it is removed, however long that is.
        #[arg(long, conflicts_with_all = ["duration", "until"])]
        forever: bool,
        /// What is done: observe, challenge, l7-deny or kernel-ban; without it the kernel drops a network, and other
        /// scopes are refused at layer 7.
        #[arg(long, value_name = "ACTION", value_parser = ["observe", "challenge", "l7-deny", "kernel-ban"])]
        action: Option<String>,
        /// Why; kept with the ban.
        #[arg(long, default_value = "by an operator")]
        reason: String,
    },
    /// Release what was banned, by its scope.
    Remove {
        /// As it was banned.
        scope: String,
    },
    /// All bans that hold now.
    List {
        /// Only those that share an address with this network.
        #[arg(long)]
        within: Option<IpNetwork>,
    },
    /// The bans on exactly one scope, with what led to them.
    Show {
        /// A scope as it was banned, or a decision's id.
        scope: String,
    },
    /// Write all bans to a file, or to standard output.
    Export {
        /// The file.
        file: Option<PathBuf>,
    },
    /// Take bans from a file that `export` wrote.
    Import {
        /// The file.
        file: PathBuf,
    },
}

/// The verbs of `gateway allow`.
#[derive(Debug, Subcommand)]
pub enum Allow {
    /// Never ban this network; bans that overlap it end.
    Add {
        /// An address or a network.
        network: IpNetwork,
    },
    /// Take a network off the operators' allowlist.
    Remove {
        /// As it was added.
        network: IpNetwork,
    },
    /// Everything that is never banned, and why.
    List,
}

/// Unix milliseconds of a time in UTC.
fn time(text: &str) -> Result<u64, String> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    rfc3339_ms(&whole)
        .ok_or_else(|| "write a time in UTC, such as 2026-12-24 or 2026-12-24T18:00:00Z".to_owned())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a whole number and a unit, such as 30m, 2h or 7d".to_owned())
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::Add { scope, duration, until, forever, action, reason } => {
            let for_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            let body = json!({
                "scope": scope,
                "for_ms": if *forever || until.is_some() { Value::Null } else { for_ms.into() },
                "until_ms": until,
                "action": action,
                "reason": reason,
            });
            out.print(&control.post("/v1/bans", &body)?, |v| {
                format!("banned {}, {}\n", field(v, "scope"), ends(v))
            });
        }
        Command::Remove { scope } => {
            let answer = control.post("/v1/bans/remove", &json!({ "scope": scope }))?;
            out.print(&answer, |v| {
                let still = decisions(v, "still_covered_by");
                let mut text = format!("released {scope}\n");
                if !still.is_empty() {
                    text.push_str("still covered by:\n");
                    text.push_str(&listing(&still));
                }
                text
            });
        }
        Command::List { within } => {
            let answer = control.post("/v1/bans/list", &json!({ "within": within }))?;
            out.print(&answer, |v| {
                let mut text = listing(&decisions(v, "decisions"));
                if v.get("enabled").and_then(Value::as_bool) == Some(false) {
                    text.push_str("bans are off ([bans] enabled = false): offences lead to none\n");
                }
                if v.get("more").and_then(Value::as_bool) == Some(true) {
                    text.push_str(&format!("the first of {}; `export` writes all\n", field(v, "held")));
                }
                text
            });
        }
        Command::Show { scope } => {
            let answer = control.get(&format!("/v1/bans/{}", encode_segment(scope)))?;
            out.print(&answer, |v| format!("{v:#}\n"));
        }
        Command::Export { file } => export(control, file.as_deref(), out)?,
        Command::Import { file } => {
            let usage = |e: &dyn std::fmt::Display| CallError::Usage(format!("{}: {e}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|e| usage(&e))?;
            let bans: Value = serde_json::from_str(&text).map_err(|e| usage(&e))?;
            out.print(&control.post("/v1/bans/import", &bans)?, |v| {
                let mut text = format!("{} bans taken\n", field(v, "added"));
                for refused in v.get("refused").and_then(Value::as_array).into_iter().flatten() {
                    text.push_str(&format!("{refused}\n"));
                }
                text
            });
        }
    }
    Ok(())
}

pub(super) fn allow(command: &Allow, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Allow::Add { network } => {
            out.print(&control.post("/v1/allow", &json!({ "network": network }))?, |_| {
                format!("{network} is never banned from here on\n")
            });
        }
        Allow::Remove { network } => {
            out.print(&control.post("/v1/allow/remove", &json!({ "network": network }))?, |_| {
                format!("{network} is off the allowlist\n")
            });
        }
        Allow::List => out.print(&control.get("/v1/allow")?, |v| {
            let rows: Vec<Vec<String>> = v
                .as_array()
                .into_iter()
                .flatten()
                .map(|e| vec![field(e, "network"), field(e, "why")])
                .collect();
            table(&["NETWORK", "WHY"], &rows)
        }),
    }
    Ok(())
}

/// All pages of the list, as one JSON array.
fn export(control: &Control, file: Option<&Path>, out: Output) -> Result<(), CallError> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().and_then(|d| d.get("id")).cloned();
        let page = control.post("/v1/bans/list", &json!({ "after": after }))?;
        all.extend(decisions(&page, "decisions"));
        if page.get("more").and_then(Value::as_bool) != Some(true) {
            break;
        }
    }
    let count = all.len();
    let text = format!("{:#}\n", Value::Array(all));
    match file {
        None => super::output::write_out(&text),
        Some(file) => {
            std::fs::write(file, text).map_err(|e| CallError::Usage(format!("{}: {e}", file.display())))?;
            out.print(&json!({ "exported": count }), |_| format!("{count} bans in {}\n", file.display()));
        }
    }
    Ok(())
}

pub(super) fn decisions(value: &Value, name: &str) -> Vec<Value> {
    let list = value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    // An ended decision stands inside of the record of its end.
    list.into_iter().map(|d| d.get("decision").cloned().unwrap_or(d)).collect()
}

pub(super) fn listing(decisions: &[Value]) -> String {
    let rows: Vec<Vec<String>> = decisions
        .iter()
        .map(|d| vec![field(d, "scope"), field(d, "action"), ends(d), field(d, "origin"), field(d, "reason")])
        .collect();
    table(&["SCOPE", "ACTION", "ENDS", "ORIGIN", "REASON"], &rows)
}

/// When a decision ends, from now.
fn ends(decision: &Value) -> String {
    let Some(end_ms) = decision.get("end_ms").and_then(Value::as_u64) else {
        return "until it is removed".to_owned();
    };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let left = end_ms.saturating_sub(now_ms) / 1000;
    match left {
        0 => "now".to_owned(),
        1..=119 => format!("in {left} s"),
        120..=7199 => format!("in {} min", left / 60),
        7200..=172_799 => format!("in {} h", left / 3600),
        _ => format!("in {} d", left / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        for (after_s, expected) in
            [(90, "in 89 s"), (3600, "in 59 min"), (86_400, "in 23 h"), (864_000, "in 9 d")]
        {
            assert_eq!(ends(&json!({ "end_ms": now_ms + after_s * 1000 - 500 })), expected);
        }
        assert_eq!(ends(&json!({})), "until it is removed");
        assert_eq!(ends(&json!({ "end_ms": 1 })), "now");
    }
}
