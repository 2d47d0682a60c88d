//! What a stage expects against what came of it.

use std::collections::BTreeSet;

use regex::RegexBuilder;

use super::suite::Output;
use super::target::Outcome;

/// Everything expected that did not come, and the reverse; empty: the stage passed.
pub fn check(expected: &Output, outcome: &Outcome) -> Vec<String> {
    if expected.expect_error == Some(true) {
        return match outcome.status {
            None => Vec::new(),
            Some(status) => vec![format!("expected the connection to fail, got status {status}")],
        };
    }
    let mut failures = Vec::new();
    match outcome.status {
        None => failures.push("the connection failed".to_owned()),
        Some(status) if !expected.status.is_empty() && !expected.status.contains(&status) => {
            failures.push(format!("expected status {:?}, got {status}", expected.status));
        }
        Some(_) => {}
    }
    if let Some(pattern) = &expected.response_contains {
        expect_match(pattern, &outcome.response, true, "the response", &mut failures);
    }
    let ids = logged_ids(&outcome.log);
    for id in expected.expect_ids.iter().filter(|id| !ids.contains(id)) {
        failures.push(format!("expected {id} to be logged"));
    }
    for id in expected.no_expect_ids.iter().filter(|id| ids.contains(id)) {
        failures.push(format!("expected {id} not to be logged"));
    }
    let log = outcome.log.join("\n");
    for pattern in &expected.match_regex {
        expect_match(pattern, &log, true, "the log", &mut failures);
    }
    for pattern in &expected.no_match_regex {
        expect_match(pattern, &log, false, "the log", &mut failures);
    }
    if expected.isolated && ids.len() != 1 {
        failures.push(format!("expected one rule to be logged, got {ids:?}"));
    }
    failures
}

/// The rule ids of log lines.
pub fn logged_ids(lines: &[String]) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    for line in lines {
        for part in line.split("[id \"").skip(1) {
            let digits = part.split('"').next().unwrap_or_default();
            ids.extend(digits.parse::<u64>().ok());
        }
    }
    ids
}

fn expect_match(pattern: &str, text: &str, wanted: bool, place: &str, failures: &mut Vec<String>) {
    match RegexBuilder::new(pattern).multi_line(true).build() {
        Err(error) => failures.push(format!("cannot read the pattern `{pattern}`: {error}")),
        Ok(regex) if regex.is_match(text) != wanted => {
            let verb = if wanted { "to match" } else { "not to match" };
            failures.push(format!("expected {place} {verb} `{pattern}`"));
        }
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations() {
        let outcome = Outcome {
            status: Some(200),
            response: "HTTP/1.1 200\r\n\r\nhello".to_owned(),
            refused: None,
            log: vec!["ModSecurity: [id \"1\"] [msg \"a\"]".to_owned(), "[id \"2\"]".to_owned()],
        };
        let gone = Outcome::default();
        let output = Output::default;
        let rows = [
            (output(), &outcome, 0),
            (output(), &gone, 1),
            (Output { expect_error: Some(true), ..output() }, &gone, 0),
            (Output { expect_error: Some(true), ..output() }, &outcome, 1),
            (Output { status: vec![403, 200], ..output() }, &outcome, 0),
            (Output { status: vec![403], ..output() }, &outcome, 1),
            (Output { expect_ids: vec![1, 2], ..output() }, &outcome, 0),
            (Output { expect_ids: vec![1, 3, 4], ..output() }, &outcome, 2),
            (Output { no_expect_ids: vec![3], ..output() }, &outcome, 0),
            (Output { no_expect_ids: vec![2], ..output() }, &outcome, 1),
            (Output { match_regex: vec!["id \"1\".*msg".to_owned()], ..output() }, &outcome, 0),
            (Output { match_regex: vec!["(".to_owned()], ..output() }, &outcome, 1),
            (Output { no_match_regex: vec!["msg".to_owned()], ..output() }, &outcome, 1),
            (Output { response_contains: Some("hel+o".to_owned()), ..output() }, &outcome, 0),
            (Output { isolated: true, ..output() }, &outcome, 1),
        ];
        for (expected, outcome, failures) in rows {
            assert_eq!(check(&expected, outcome).len(), failures, "{expected:?}");
        }
    }
}
