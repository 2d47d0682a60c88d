//! The figures.

use serde::Serialize;

/// One figure.
#[derive(Serialize)]
pub struct Row {
    case: String,
    ours: f64,
    unit: &'static str,
    peer: f64,
    peer_name: &'static str,
    /// `less`: ours by the peer's is to be the goal or less; `more`: or more; `bound`: the peer is the bound.
    better: &'static str,
    goal: f64,
}

/// All figures, and remarks on them.
#[derive(Default, Serialize)]
pub struct Rows {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Rows {
    /// Ours is to be `bound` or less.
    pub fn within(&mut self, case: &str, ours: f64, unit: &'static str, bound: f64) {
        let case = case.to_owned();
        self.rows.push(Row { case, ours, unit, peer: bound, peer_name: "bound", better: "bound", goal: 1.0 });
    }

    /// Ours by the peer's is to be `goal` or less.
    pub fn at_most(
        &mut self,
        case: &str,
        ours: f64,
        unit: &'static str,
        (peer, peer_name): (f64, &'static str),
        goal: f64,
    ) {
        self.rows.push(Row { case: case.to_owned(), ours, unit, peer, peer_name, better: "less", goal });
    }

    /// Ours by the peer's is to be `goal` or more.
    pub fn at_least(
        &mut self,
        case: &str,
        ours: f64,
        unit: &'static str,
        (peer, peer_name): (f64, &'static str),
        goal: f64,
    ) {
        self.rows.push(Row { case: case.to_owned(), ours, unit, peer, peer_name, better: "more", goal });
    }

    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub fn print(&self) {
        for row in &self.rows {
            let ratio = row.ours / row.peer;
            let met = if row.better == "more" { ratio >= row.goal } else { ratio <= row.goal };
            println!(
                "{:<58} {:>12.3} {:<6} {:>12.3} {:<16} {:>7.3} {:<5} {:<6} {}",
                row.case,
                row.ours,
                row.unit,
                row.peer,
                row.peer_name,
                ratio,
                row.better,
                row.goal,
                if met { "met" } else { "NOT MET" }
            );
        }
        for note in &self.notes {
            println!("- {note}");
        }
    }

    pub fn write(&self, file: &str) {
        let text = serde_json::to_string_pretty(self).expect("JSON");
        std::fs::write(file, text).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds that this thread has run, to the nanosecond: what others take of the processor does not count.
pub fn on_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Resident memory of this process, in bytes.
pub fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: f64 = text.split_whitespace().nth(1).and_then(|p| p.parse().ok()).expect("resident pages");
    pages * 4096.0
}
