//! `gateway xdp`.

use clap::Subcommand;
use serde_json::Value;

use super::output::{field, table};
use super::status::flat;
use super::{CallError, Control, Output};

/// The verbs of `gateway xdp`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Where the program is attached, and how.
    Status,
    /// Packets by what became of them and why.
    Stats,
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::Status => out.print(&control.get("/v1/xdp/status")?, flat),
        Command::Stats => out.print(&control.get("/v1/xdp/stats")?, |v| {
            let rows: Vec<Vec<String>> = v
                .get("reasons")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|r| ["reason", "packets", "bytes", "observed"].iter().map(|n| field(r, n)).collect())
                .collect();
            let mut text = table(&["REASON", "PACKETS", "BYTES", "OBSERVED"], &rows);
            for name in ["passed", "dropped", "observed"] {
                text.push_str(&format!("{name}: {}\n", field(v, name)));
            }
            text
        }),
    }
    Ok(())
}
