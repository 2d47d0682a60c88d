//! Real blocking: paranoia level 1, default thresholds. Benign requests have to pass, attacks get 403.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use gateway_waf::{CompileOptions, Severity};

use super::check::logged_ids;
use super::inprocess::InProcess;
use super::setup::{self, Crs};
use super::suite::Test;
use super::target::Target as _;
use super::{front, request};

/// Attacks that a failing run names at most.
const NAMED: usize = 40;

/// What browsers send beside what the file names.
const FIELDS: &str = "Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n\
    Referer: https://www.example.org/search?q=chairs&page=2\r\n";

/// Runs both; the exit code says whether every benign request passed and every attack was refused.
///
/// # Errors
/// The rules do not compile or the file cannot be read.
pub fn run(crs: &Crs, file: &Path, tests: &[Test]) -> Result<ExitCode> {
    let ruleset = Arc::new(setup::compile(crs, "SecRuleEngine On\n", &CompileOptions::default())?);
    let mut target = InProcess::new(Arc::clone(&ruleset));
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (mut passed, mut refused) = (0, 0);
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let outcome = target.send(&raw(line))?;
        if outcome.status == Some(403) || outcome.refused.is_some() {
            refused += 1;
            println!("false positive: {line}\n  by {:?}", logged_ids(&outcome.log));
        } else {
            passed += 1;
        }
    }
    println!("benign: {passed} passed, {refused} refused");

    // A rule that refuses alone: level 1, critical, of the request.
    let decides = |id: &u64| {
        ruleset.rules().any(|r| {
            r.id == *id
                && r.severity == Some(Severity::Critical)
                && r.phase <= 2
                && r.tags.iter().any(|t| t == "paranoia-level/1")
        })
    };
    let (mut stopped, mut through) = (0, Vec::new());
    for test in tests {
        for stage in test.stages.iter().flatten().filter(|s| s.output.expect_ids.iter().any(decides)) {
            for raw in request::build(&stage.input) {
                if front::parse(&raw).is_err() {
                    continue;
                }
                let outcome = target.send(&raw)?;
                let ids = logged_ids(&outcome.log);
                // 400 is the answer to bodies that cannot be read.
                let is_refused = matches!(outcome.status, Some(403 | 400));
                if is_refused && stage.output.expect_ids.iter().all(|id| !decides(id) || ids.contains(id)) {
                    stopped += 1;
                } else {
                    through.push(format!("{}: status {:?}, matched {ids:?}", test.name, outcome.status));
                }
            }
        }
    }
    for line in through.iter().take(NAMED) {
        println!("not refused as expected: {line}");
    }
    println!("attacks: {stopped} refused by the right rules, {} not", through.len());
    let good = refused == 0 && through.is_empty() && passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A request as bytes, of a line with method, URI, content type, body and cookie.
fn raw(line: &str) -> Vec<u8> {
    let mut columns = line.split('\t');
    let mut next = || columns.next().unwrap_or("");
    let (method, uri, kind, body, cookie) = (next(), next(), next(), next(), next());
    let body = unescape(body);
    let mut raw = format!("{method} {uri} HTTP/1.1\r\n{FIELDS}");
    if !kind.is_empty() {
        raw += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    }
    if !cookie.is_empty() {
        raw += &format!("Cookie: {cookie}\r\n");
    }
    raw += "\r\n";
    [raw.as_bytes(), &body].concat()
}

/// `\r`, `\n` and `\\` as bytes.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_requests() {
        let text = String::from_utf8(raw("POST\t/x?a\ttext/plain\ta\\r\\nb\\\\\tc=d")).expect("text");
        assert!(text.starts_with("POST /x?a HTTP/1.1\r\nHost: "), "{text}");
        assert!(text.ends_with("Content-Length: 5\r\nCookie: c=d\r\n\r\na\r\nb\\"), "{text}");
    }
}
