//! The table that every bench prints, and its JSON form.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure of ours beside a peer's.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub case: String,
    /// Our figure.
    pub ours: f64,
    /// Its unit.
    pub unit: String,
    /// The peer's or baseline's figure, in the same unit.
    pub peer: f64,
    /// Who that is.
    pub peer_name: String,
    /// Ours by the peer's.
    pub ratio: f64,
    /// What the ratio should be.
    pub goal: String,
    /// Whether it is.
    pub met: bool,
}

impl Row {
    /// More is better: the ratio should be `goal` or more.
    pub fn at_least(case: &str, ours: f64, unit: &str, peer: f64, goal: f64, peer_name: &str) -> Self {
        let ratio = if peer > 0.0 { ours / peer } else { 0.0 };
        Self::new(case, ours, unit, peer, peer_name, ratio, format!(">= {goal}"), ratio >= goal)
    }

    /// Less is better: the ratio should be `goal` or less.
    pub fn at_most(case: &str, ours: f64, unit: &str, peer: f64, goal: f64, peer_name: &str) -> Self {
        let ratio = if peer > 0.0 { ours / peer } else { f64::MAX };
        Self::new(case, ours, unit, peer, peer_name, ratio, format!("<= {goal}"), ratio <= goal)
    }

    /// A figure with a bound of its own instead of a peer: `ours` should be `bound` or less.
    pub fn within(case: &str, ours: f64, unit: &str, bound: f64) -> Self {
        Self::new(case, ours, unit, bound, "bound", ours / bound, format!("<= {bound} {unit}"), ours <= bound)
    }

    #[allow(clippy::too_many_arguments)]
    fn new(
        case: &str,
        ours: f64,
        unit: &str,
        peer: f64,
        peer_name: &str,
        ratio: f64,
        goal: String,
        met: bool,
    ) -> Self {
        Self {
            case: case.to_owned(),
            ours,
            unit: unit.to_owned(),
            peer,
            peer_name: peer_name.to_owned(),
            ratio,
            goal,
            met,
        }
    }
}

/// A bench's rows and remarks.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: String,
    machine: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// An empty report of the bench `name`, with the machine it runs on.
    pub fn new(name: &str) -> Self {
        Self { bench: name.to_owned(), machine: machine(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a remark that stands below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints the table, and writes the JSON where asked for.
    pub fn finish(&self, json: Option<&Path>) -> Result<()> {
        println!("bench {} on {}", self.bench, self.machine);
        let width = self.rows.iter().map(|r| r.case.chars().count()).max().unwrap_or(4).max(4);
        println!(
            "{:width$}  {:>12}  {:>12}  {:<8}  {:<22}  {:>8}  {:<12}  met",
            "case", "ours", "peer", "unit", "peer is", "ratio", "goal"
        );
        for r in &self.rows {
            println!(
                "{:width$}  {:>12}  {:>12}  {:<8}  {:<22}  {:>8.2}  {:<12}  {}",
                r.case,
                number(r.ours),
                number(r.peer),
                r.unit,
                r.peer_name,
                r.ratio,
                r.goal,
                if r.met { "yes" } else { "NO" }
            );
        }
        for note in &self.notes {
            println!("- {note}");
        }
        let met = self.rows.iter().filter(|r| r.met).count();
        println!("{met} of {} goals met", self.rows.len());
        if let Some(file) = json {
            let text = serde_json::to_string_pretty(self)?;
            std::fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }
}

/// Three or four significant digits, without an exponent.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Processor, cores and kernel.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|l| {
            l.strip_prefix("model name").and_then(|l| l.split_once(':')).map(|(_, m)| m.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals() {
        for (row, met) in [
            (Row::at_least("", 100.0, "", 50.0, 2.0, ""), true),
            (Row::at_least("", 99.0, "", 50.0, 2.0, ""), false),
            (Row::at_least("", 1.0, "", 0.0, 1.0, ""), false),
            (Row::at_most("", 3.0, "", 2.0, 1.5, ""), true),
            (Row::at_most("", 3.1, "", 2.0, 1.5, ""), false),
            (Row::within("", 8.0, "us", 8.0), true),
        ] {
            assert_eq!(row.met, met, "{row:?}");
        }
        assert_eq!(
            (number(12345.6), number(12.34), number(1.2345)),
            ("12346".into(), "12.3".into(), "1.234".into())
        );
    }
}
