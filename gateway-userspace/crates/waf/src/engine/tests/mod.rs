//! Rules and requests in, what matched and the verdict out: rows of data.

mod actions;
mod bodies;
mod directives;
mod flow;
mod limits;
mod persistent;
mod settled;
mod targets;

use std::sync::Arc;

use super::{
    context::{Connection, Services},
    transaction::Transaction,
    verdict::Verdict,
};
use crate::{BodyOutcome, CompileOptions, Diagnostic, Entry, Ruleset, source::MemorySource};

/// A rule set of text; panics with all diagnostics when it has errors.
pub(super) fn compile(rules: &str) -> Arc<Ruleset> {
    match try_compile(rules) {
        Ok((ruleset, _)) => Arc::new(ruleset),
        Err(diagnostics) => panic!("{rules}\n{}", show(&diagnostics)),
    }
}

pub(super) fn try_compile(rules: &str) -> Result<(Ruleset, Vec<Diagnostic>), Vec<Diagnostic>> {
    let text = format!("SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\n{rules}");
    let entries = [Entry::Text { name: "t.conf", text: &text }];
    Ruleset::compile(&MemorySource::new(), &entries, &CompileOptions::default())
}

pub(super) fn show(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

pub(super) fn connection() -> Connection<'static> {
    Connection {
        client: ([192, 0, 2, 1], 1234).into(),
        server: ([198, 51, 100, 2], 80).into(),
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "unique",
        web_app_id: "app",
    }
}

/// A request (and the response to it) as text: request line, headers, empty line, body; a line `>>>` begins the response.
pub(super) fn run(transaction: &mut Transaction, exchange: &str) -> Verdict {
    transaction.begin(&connection());
    let (request, response) = exchange.split_once("\n>>>\n").unwrap_or((exchange, "HTTP/1.1 200 OK\n\n"));
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    transaction.request_line_raw(lines.next().unwrap_or("").as_bytes());
    for (name, value) in lines.filter_map(|l| l.split_once(": ")) {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    let verdict = phases(transaction, body, response);
    transaction.logging(1_795_228_800_000_000_000);
    verdict
}

fn phases(transaction: &mut Transaction, body: &str, response: &str) -> Verdict {
    let verdict = transaction.request_headers();
    if verdict.is_blocking() {
        return verdict;
    }
    if let BodyOutcome::Stop(verdict) = transaction.write_request_body(body.as_bytes()) {
        return verdict;
    }
    let verdict = transaction.request_body();
    if verdict.is_blocking() {
        return verdict;
    }
    let (head, body) = response.split_once("\n\n").unwrap_or((response, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(200);
    transaction.response_line(status, b"HTTP/1.1", b"OK");
    for (name, value) in lines.filter_map(|l| l.split_once(": ")) {
        transaction.response_header(name.as_bytes(), value.as_bytes());
    }
    let verdict = transaction.response_headers();
    if verdict.is_blocking() {
        return verdict;
    }
    if let BodyOutcome::Stop(verdict) = transaction.write_response_body(body.as_bytes()) {
        return verdict;
    }
    transaction.response_body()
}

pub(super) fn show_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Allow { scope, rule_id } => format!("allow {scope:?} by {rule_id}"),
        Verdict::Deny { status, rule_id } => format!("deny {status} by {rule_id}"),
        Verdict::Drop { rule_id } => format!("drop by {rule_id}"),
        Verdict::Redirect { status, location, rule_id } => format!("{status} to {location} by {rule_id}"),
    }
}

/// Ids that matched, then the verdict: `1 2; deny 403 by 2`.
pub(super) fn outcome(rules: &str, exchange: &str) -> String {
    let mut transaction = Transaction::new(compile(rules), Services::default());
    let verdict = run(&mut transaction, exchange);
    let ids: Vec<String> = transaction.matches().iter().map(|m| m.rule.id.to_string()).collect();
    format!("{}; {}", ids.join(" "), show_verdict(&verdict))
}

pub(super) fn check(rows: &[(&str, &str, &str)]) {
    for (rules, exchange, expected) in rows {
        assert_eq!(outcome(rules, exchange), *expected, "{rules}\n{exchange}");
    }
}

/// What the message of the last match says.
pub(super) fn message(rules: &str, exchange: &str) -> String {
    let mut transaction = Transaction::new(compile(rules), Services::default());
    run(&mut transaction, exchange);
    transaction.matches().last().map_or(String::new(), |m| m.message.to_string())
}
