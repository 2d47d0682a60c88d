//! `gateway rules profile`: what requests cost, and what each rule costs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway_waf::{Observer, Services, Transaction};
use serde::Serialize;
use serde_json::json;

use super::Failure;
use super::request::{MAX_REQUESTS, Request};
use crate::cli::ConfigArgs;
use crate::cli::output::{Output, table};
use crate::rules;

/// Rows that people are shown of each table; JSON has all.
const SHOWN: usize = 30;

/// What a rule cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Cost {
    asked: u64,
    matched: u64,
    #[serde(serialize_with = "micros")]
    took: Duration,
}

fn micros<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_secs_f64() * 1e6)
}

type Costs = Arc<Mutex<HashMap<u64, Cost>>>;

/// Takes the time of each rule.
struct Clock {
    costs: Costs,
    began: Instant,
}

impl Observer for Clock {
    fn begins(&mut self, _: u64) {
        self.began = Instant::now();
    }

    fn ends(&mut self, rule_id: u64, matched: bool) {
        let took = self.began.elapsed();
        let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = costs.entry(rule_id).or_default();
        cost.asked += 1;
        cost.matched += u64::from(matched);
        cost.took += took;
    }
}

/// A request and what it cost.
#[derive(Debug, Serialize)]
struct Row {
    request: String,
    us: f64,
    rules: Vec<u64>,
}

/// A rule and what it cost.
#[derive(Debug, Serialize)]
struct RuleRow {
    id: u64,
    #[serde(flatten)]
    cost: Cost,
    share: f64,
    message: String,
    file: String,
    line: u32,
}

/// Runs the verb: first with everything that makes rules fast, for the requests; then rule by rule.
pub(super) fn run(path: &Path, rounds: u32, config: &ConfigArgs, out: Output) -> Result<(), Failure> {
    let waf = config.load()?.config.waf;
    let requests = Request::read_all(path)?;
    if requests.is_empty() {
        let reason = format!("there is no request in it (at most {MAX_REQUESTS} are read)");
        return Err(Failure::Request { file: path.to_owned(), reason });
    }
    let client = IpAddr::from([192, 0, 2, 1]);
    let fast = rules::load(&waf)?;
    let mut tx = Transaction::new(fast.ruleset, Services::default());
    let mut rows: Vec<Row> = requests.iter().map(|request| timed(request, &mut tx, client, rounds)).collect();
    rows.sort_by(|a, b| b.us.total_cmp(&a.us));

    // Without the prefilter every rule is asked: what it costs by itself, and what a screen spares.
    let plain = rules::load_with(&waf, false)?;
    let costs = Costs::default();
    let mut tx = Transaction::new(Arc::clone(&plain.ruleset), Services::default());
    // Patterns compile when they are first asked.
    for request in &requests {
        request.judge(&mut tx, client, 0);
    }
    tx.observe(Some(Box::new(Clock { costs: Arc::clone(&costs), began: Instant::now() })));
    for _ in 0..rounds.div_ceil(10) {
        for request in &requests {
            request.judge(&mut tx, client, 0);
        }
    }
    let costs = costs.lock().unwrap_or_else(PoisonError::into_inner);
    let total: f64 = costs.values().map(|c| c.took.as_secs_f64()).sum();
    let mut by_rule: Vec<RuleRow> = plain
        .ruleset
        .rules()
        .filter_map(|rule| {
            let cost = *costs.get(&rule.id)?;
            Some(RuleRow {
                id: rule.id,
                cost,
                share: cost.took.as_secs_f64() / total.max(f64::MIN_POSITIVE),
                message: rule.msg.clone(),
                file: rule.file.clone(),
                line: rule.line,
            })
        })
        .collect();
    by_rule.sort_by_key(|row| std::cmp::Reverse(row.cost.took));
    out.print(&json!({ "requests": rows, "rules": by_rule }), |_| text(&rows, &by_rule));
    Ok(())
}

fn timed(request: &Request, tx: &mut Transaction, client: IpAddr, rounds: u32) -> Row {
    request.judge(tx, client, 0);
    let started = Instant::now();
    for _ in 0..rounds {
        request.judge(tx, client, 0);
    }
    let us = started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
    Row { request: request.name.clone(), us, rules: tx.matches().iter().map(|m| m.rule.id).collect() }
}

fn text(rows: &[Row], by_rule: &[RuleRow]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .take(SHOWN)
        .map(|row| vec![row.request.clone(), format!("{:.1}", row.us), format!("{:?}", row.rules)])
        .collect();
    let mut text = table(&["REQUEST", "US", "RULES THAT MATCHED"], &cells);
    text.push_str("\nEach rule asked by itself, without the screens that spare most of it:\n\n");
    let cells: Vec<Vec<String>> = by_rule
        .iter()
        .take(SHOWN)
        .map(|row| {
            let each = row.cost.took.as_secs_f64() * 1e9 / row.cost.asked.max(1) as f64;
            vec![
                row.id.to_string(),
                format!("{:.1} %", row.share * 100.0),
                format!("{each:.0}"),
                row.cost.asked.to_string(),
                row.cost.matched.to_string(),
                row.message.clone(),
            ]
        })
        .collect();
    text.push_str(&table(&["RULE", "SHARE", "NS EACH", "ASKED", "MATCHED", "MESSAGE"], &cells));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_asked_is_counted() {
        let costs = Costs::default();
        let waf = crate::config::waf::Waf::default();
        let loaded = rules::load_with(&waf, false).expect("built-in rules");
        let mut tx = Transaction::new(Arc::clone(&loaded.ruleset), Services::default());
        tx.observe(Some(Box::new(Clock { costs: Arc::clone(&costs), began: Instant::now() })));
        let file = std::env::temp_dir().join(format!("gateway-profile-{}", std::process::id()));
        std::fs::write(&file, "GET /?q=1%27%20OR%20%271%27=%271 HTTP/1.1\nHost: a\n\n").expect("file");
        let request = Request::read(&file).expect("request");
        std::fs::remove_file(&file).expect("file");
        for _ in 0..3 {
            assert!(request.judge(&mut tx, [192, 0, 2, 1].into(), 0).is_blocking());
        }
        let costs = costs.lock().expect("lock");
        let sqli = costs.get(&5_100_500).expect("the rule was asked");
        assert_eq!((sqli.asked, sqli.matched), (3, 3));
        assert!(costs.len() > 20 && costs.values().any(|c| c.matched == 0), "{}", costs.len());
    }
}
