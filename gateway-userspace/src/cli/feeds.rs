//! `gateway feeds`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{field, table};
use super::{CallError, Control, Output};

/// The verbs of `gateway feeds`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every list: how many networks are in force, how many were left out, and what went wrong.
    List,
    /// Look for newer lists now.
    Refresh,
}

pub(super) fn run(command: &Command, control: &Control, out: Output) -> Result<(), CallError> {
    match command {
        Command::List => out.print(&control.get("/v1/feeds")?, |v| {
            let columns = ["name", "networks", "guarded", "bad_lines", "error"];
            let rows: Vec<Vec<String>> =
                v.as_array().into_iter().flatten().map(|f| columns.map(|c| field(f, c)).to_vec()).collect();
            table(&["NAME", "NETWORKS", "LEFT OUT", "BAD LINES", "ERROR"], &rows)
        }),
        Command::Refresh => {
            let answer: Value = control.post("/v1/feeds/refresh", &json!({}))?;
            out.print(&answer, |v| format!("looking for newer versions of {} lists\n", field(v, "looking")));
        }
    }
    Ok(())
}
