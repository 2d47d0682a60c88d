//! The figures, printed and as JSON.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    case: String,
    ours: f64,
    unit: String,
    peer: Option<f64>,
    peer_name: Option<String>,
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
}

impl Row {
    /// A time in microseconds against the peer's; `goal` is how many times faster ours is to be.
    pub fn ratio(case: &str, ours: f64, peer: Option<f64>, goal: Option<f64>) -> Self {
        let ratio = peer.map(|peer| peer / ours);
        let goal = goal.filter(|_| ratio.is_some());
        Self {
            case: case.to_owned(),
            ours,
            unit: "µs".to_owned(),
            peer,
            peer_name: peer.map(|_| "libmodsecurity".to_owned()),
            ratio,
            goal: goal.map(|goal| format!(">= {goal}x")),
            met: goal.and_then(|goal| ratio.map(|ratio| ratio >= goal)),
        }
    }

    /// A figure that is to stay at or under `limit`; an infinite limit is none.
    pub fn limit(case: &str, ours: f64, unit: &str, peer: Option<f64>, limit: f64) -> Self {
        Self {
            case: case.to_owned(),
            ours,
            unit: unit.to_owned(),
            peer,
            peer_name: peer.map(|_| "libmodsecurity".to_owned()),
            ratio: peer.map(|peer| peer / ours),
            goal: limit.is_finite().then(|| format!("<= {limit} {unit}")),
            met: limit.is_finite().then_some(ours <= limit),
        }
    }
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    machine: String,
    rows: Vec<Row>,
}

impl Report {
    /// An empty one for this machine.
    pub fn new() -> Self {
        Self { bench: "waf", machine: machine(), rows: Vec::new() }
    }

    /// Adds a figure.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether no goal was missed.
    pub fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// As a table on standard output.
    pub fn print(&self) {
        println!("{}", self.machine);
        println!("{:52} {:>10} {:>5} {:>10} {:>8}  goal", "case", "ours", "", "peer", "ratio");
        for row in &self.rows {
            let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.1}"));
            let goal = match (&row.goal, row.met) {
                (Some(goal), Some(true)) => format!("{goal} met"),
                (Some(goal), _) => format!("{goal} MISSED"),
                (None, _) => String::new(),
            };
            println!(
                "{:52} {:>10.2} {:>5} {:>10} {:>8}  {goal}",
                row.case,
                row.ours,
                row.unit,
                number(row.peer),
                number(row.ratio)
            );
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", model.unwrap_or("unknown processor").trim())
}
