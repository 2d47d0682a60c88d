//! `gateway ban`.

use clap::Subcommand;

use super::connect::encode_segment;
use super::output::{field, table};
use super::{CallError, Control, Output};
use crate::client::IpNetwork;
use crate::config::duration::parse_duration;

/// The verbs of `gateway ban`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ban an address or a network.
    Add {
        /// An address, or a network such as 192.0.2.0/24.
        network: IpNetwork,
        /// How long, such as 30m, 2h or 7d.
        #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration)]
        duration: std::time::Duration,
        /// Why; kept with the ban.
        #[arg(long, default_value = "by an operator")]
        reason: String,
    },
    /// Release an address or a network.
    Remove {
        /// The network as it was banned.
        network: IpNetwork,
    },
    /// All bans that hold now.
    List,
    /// One ban, with what led to it.
    Show {
        /// The network as it was banned.
        network: IpNetwork,
    },
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text).ok_or_else(|| "write a whole number and a unit, such as 30m, 2h or 7d".to_owned())
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::Add { network, duration, reason } => {
            let body = serde_json::json!({
                "network": network,
                "for_ms": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                "reason": reason,
            });
            out.print(&control.post("/v1/bans", &body)?, |v| {
                format!("banned {} until {}\n", field(v, "network"), field(v, "until"))
            });
        }
        Command::Remove { network } => {
            let path = format!("/v1/bans/{}", encode_segment(&network.to_string()));
            out.print(&control.delete(&path)?, |_| format!("released {network}\n"));
        }
        Command::List => out.print(&control.get("/v1/bans")?, |v| {
            let rows: Vec<Vec<String>> = v
                .as_array()
                .into_iter()
                .flatten()
                .map(|ban| {
                    ["network", "layer", "until", "origin", "reason"]
                        .iter()
                        .map(|name| field(ban, name))
                        .collect()
                })
                .collect();
            table(&["NETWORK", "LAYER", "UNTIL", "ORIGIN", "REASON"], &rows)
        }),
        Command::Show { network } => {
            let path = format!("/v1/bans/{}", encode_segment(&network.to_string()));
            out.print(&control.get(&path)?, |v| format!("{v:#}\n"));
        }
    }
    Ok(())
}
