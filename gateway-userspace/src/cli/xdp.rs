//! `gateway xdp`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{field, table};
use super::{CallError, Control, Output, events, exit};
use crate::kernel::{self, DEFAULT_PIN_ROOT};

/// The verbs of `gateway xdp`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Where the program is attached, and how; what its parts do, what its tables hold and cost.
    Status {
        /// The folder of the pins ([kernel] pin): what is told when no gateway answers.
        #[arg(long, value_name = "FOLDER", default_value = DEFAULT_PIN_ROOT)]
        pin: PathBuf,
    },
    /// Packets by what became of them and why.
    Stats,
    /// The bans that dropped most packets.
    Top {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        count: u32,
    },
    /// The latest drops by example, under a budget: when, why, from where to where.
    Events(events::Args),
    /// Put the program of the running gateway on interfaces, until its next start.
    Attach {
        /// Their names: all of them get it, or none.
        #[arg(required = true)]
        interfaces: Vec<String>,
        /// In the driver where it can, else after it; or only one of the two.
        #[arg(long, default_value = "auto", value_parser = ["auto", "native", "generic"])]
        mode: String,
    },
    /// Take the program off interfaces; with --all off every one, and remove its pinned maps, bans included.
    Detach {
        /// Their names; the running gateway does it, and puts it back at its next start where the configuration names
        /// them.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        interfaces: Vec<String>,
        /// Everywhere, asking no gateway.
        #[arg(long)]
        all: bool,
        /// The folder of the pins ([kernel] pin), for --all.
        #[arg(long, value_name = "FOLDER", default_value = DEFAULT_PIN_ROOT, requires = "all")]
        pin: PathBuf,
    },
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::Status { pin } => match control.get("/v1/xdp/status") {
            Err(unreachable @ CallError::Unreachable { .. }) => return pinned(pin, unreachable, out),
            answer => out.print(&answer?, status),
        },
        Command::Stats => out.print(&control.get("/v1/xdp/stats")?, |v| {
            let mut text = rows(v.get("reasons"), &["reason", "packets", "bytes", "observed"]);
            if v.get("bans").and_then(Value::as_array).is_some_and(|bans| !bans.is_empty()) {
                text.push_str("\ndropped by bans:\n");
                text.push_str(&rows(v.get("bans"), &["reason", "packets"]));
            }
            text.push('\n');
            for name in ["passed", "dropped", "observed", "events", "events_lost", "capture_lost"] {
                text.push_str(&format!("{}: {}\n", name.replace('_', " "), field(v, name)));
            }
            text
        }),
        Command::Top { count } => {
            let answer = control.get(&format!("/v1/xdp/top?n={count}"))?;
            out.print(&answer, |v| rows(Some(v), &["target", "reason", "hits"]));
        }
        Command::Events(args) => return events::run(args, control, out),
        Command::Attach { interfaces, mode } => {
            let body = json!({ "interfaces": interfaces, "mode": mode });
            out.print(&control.post("/v1/xdp/attach", &body)?, |v| {
                let text = rows(v.get("attached"), &["interface", "mode", "reason"]);
                format!(
                    "{text}{}",
                    until_restart(
                        v,
                        "stays until the gateway's next start; [kernel] interfaces names what stays"
                    )
                )
            });
        }
        Command::Detach { interfaces, .. } => {
            out.print(&control.post("/v1/xdp/detach", &json!({ "interfaces": interfaces }))?, |v| {
                let text = format!("detached from {}\n", interfaces.join(", "));
                format!(
                    "{text}{}",
                    until_restart(v, "comes back at the gateway's next start: [kernel] interfaces names it")
                )
            });
        }
    }
    Ok(())
}

/// A line on the interfaces for which the configuration says otherwise.
fn until_restart(answer: &Value, what: &str) -> String {
    let names: Vec<&str> = answer
        .get("until_restart")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if names.is_empty() { String::new() } else { format!("{}: {what}\n", names.join(", ")) }
}

/// `xdp status` for people.
fn status(v: &Value) -> String {
    let mut text = rows(v.get("interfaces"), &["interface", "mode", "mtu", "reason"]);
    let parts = v.get("modes").and_then(Value::as_object);
    let modes: Vec<Vec<String>> = parts
        .into_iter()
        .flatten()
        .map(|(part, _)| {
            let of = |name: &str| v.get(name).map_or_else(|| "-".to_owned(), |modes| field(modes, part));
            vec![part.clone(), of("modes"), of("effective")]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(&["PART", "WANTED", "IN FORCE"], &modes));
    let tables: Vec<Vec<String>> = v
        .get("tables")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|t| vec![field(t, "table"), field(t, "used"), field(t, "capacity"), mebibytes(t.get("bytes"))])
        .collect();
    text.push('\n');
    text.push_str(&table(&["TABLE", "USED", "CAPACITY", "MEMORY"], &tables));
    text.push_str(&format!("\nmemory of all maps: {}\n", mebibytes(v.get("memory_total"))));
    for name in ["pin_folder", "adopted", "capturing", "cookies", "verified_instructions", "tick_ns"] {
        text.push_str(&format!("{}: {}\n", name.replace('_', " "), field(v, name)));
    }
    if let Some(carried) = v.get("carried").filter(|carried| !carried.is_null()) {
        text.push_str(&format!(
            "carried over from {}: {} bans, {} entries of feeds\n",
            field(carried, "from"),
            field(carried, "bans"),
            field(carried, "feeds")
        ));
    }
    text
}

fn mebibytes(bytes: Option<&Value>) -> String {
    bytes
        .and_then(Value::as_f64)
        .map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes / f64::from(1 << 20)))
}

/// What is pinned, when no gateway answers; nothing pinned is the error itself.
fn pinned(pin: &Path, unreachable: CallError, out: Output) -> Result<(), CallError> {
    let interfaces = kernel::attached(pin).map_err(|error| CallError::Refused(error.to_string()))?;
    if interfaces.is_empty() {
        return Err(unreachable);
    }
    out.print(&json!({ "gateway": null, "pin": pin, "interfaces": interfaces }), |v| {
        format!(
            "no gateway answers, but its program is attached (bans hold, limits and ports only observe):\n{}",
            rows(v.get("interfaces"), &["interface", "mode", "mtu"])
        )
    });
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

/// `xdp detach --all`: works without a gateway, and beside one that runs.
pub fn detach_all(pin: &Path, out: Output) -> ExitCode {
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
