//! `gateway xdp`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{field, table};
use super::status::flat;
use super::{CallError, Control, Output, exit};
use crate::kernel::{self, DEFAULT_PIN_ROOT};

/// The verbs of `gateway xdp`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Where the program is attached, and how; what its parts do and what they hold.
    Status,
    /// Packets by what became of them and why.
    Stats,
    /// The bans that dropped most packets.
    Top {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        count: u32,
    },
    /// Take the program off every interface and remove its pinned maps, bans included; asks no gateway.
    Detach {
        /// Needed, so that nobody takes the filter off by a slip.
        #[arg(long, required = true)]
        all: bool,
        /// The folder of the pins ([kernel] pin).
        #[arg(long, value_name = "FOLDER", default_value = DEFAULT_PIN_ROOT)]
        pin: PathBuf,
    },
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::Status => out.print(&control.get("/v1/xdp/status")?, flat),
        Command::Stats => out.print(&control.get("/v1/xdp/stats")?, |v| {
            let mut text = rows(v.get("reasons"), &["reason", "packets", "bytes", "observed"]);
            for name in ["passed", "dropped", "observed"] {
                text.push_str(&format!("{name}: {}\n", field(v, name)));
            }
            text
        }),
        Command::Top { count } => {
            let answer = control.get(&format!("/v1/xdp/top?n={count}"))?;
            out.print(&answer, |v| rows(Some(v), &["target", "reason", "hits"]));
        }
        Command::Detach { .. } => {}
    }
    Ok(())
}

/// A list of objects as a table of these fields.
fn rows(list: Option<&Value>, names: &[&str]) -> String {
    let list = list.and_then(Value::as_array);
    let rows: Vec<Vec<String>> =
        list.into_iter().flatten().map(|row| names.iter().map(|n| field(row, n)).collect()).collect();
    let head: Vec<String> = names.iter().map(|n| n.to_uppercase()).collect();
    table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

/// `xdp detach`: works without a gateway, and beside one that runs.
pub fn detach(pin: &Path, out: Output) -> ExitCode {
    match kernel::uninstall(pin) {
        Ok(count) => {
            out.print(&json!({ "detached": count, "pin": pin }), |_| {
                format!("detached from {count} interfaces; nothing is left in {}\n", pin.display())
            });
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("gateway: {e}");
            ExitCode::from(exit::SYSTEM)
        }
    }
}
