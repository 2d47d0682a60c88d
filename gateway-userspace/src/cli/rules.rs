//! `gateway rules`: check, list and explain rules without a running gateway.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use gateway_waf::{Connection, Level, MatchedRule, Ruleset, Services, Transaction, Verdict};
use serde_json::json;

use super::output::{Output, table, write_out};
use super::{ConfigArgs, exit};
use crate::config::waf::{Rules as Origin, Waf};
use crate::rules::{self, Loaded, RulesError};

/// Largest request file that is explained, in bytes.
const MAX_REQUEST_BYTES: u64 = 64 << 20;

/// The verbs of `gateway rules`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile rules and say everything there is to say about them.
    Check {
        /// Rule files or globs; default: those of the configuration.
        files: Vec<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Every rule with its phase, severity and message.
    List {
        /// Only rules with this tag.
        #[arg(long)]
        tag: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// What the rules make of one request: which matched, on what, and how to exclude it.
    Explain {
        /// A file with a whole HTTP/1.1 request: request line, fields, an empty line, the body.
        request: PathBuf,
        /// The client's address.
        #[arg(long, default_value = "192.0.2.1")]
        client: std::net::IpAddr,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// What requests cost: those of a folder (files as for `explain`), judged many times over, the dearest first.
    Profile {
        /// A folder of request files.
        requests: PathBuf,
        /// Times that each request is judged.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rounds: u32,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error("{0}")]
    Rules(#[from] RulesError),
    #[error("{}: {reason}", file.display())]
    Request { file: PathBuf, reason: String },
}

/// Runs a verb.
pub fn run(command: &Command, out: Output) -> ExitCode {
    let result = match command {
        Command::Check { files, config } => check(files, config, out),
        Command::List { tag, config } => list(tag.as_deref(), config, out),
        Command::Explain { request, client, config } => explain(request, *client, config, out),
        Command::Profile { requests, rounds, config } => profile(requests, *rounds, config, out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gateway: {e}");
            ExitCode::from(exit::CONFIG)
        }
    }
}

fn configured(config: &ConfigArgs) -> Result<Loaded, Failure> {
    Ok(rules::load(&config.load()?.config.waf)?)
}

fn check(files: &[PathBuf], config: &ConfigArgs, out: Output) -> Result<(), Failure> {
    let loaded = if files.is_empty() {
        configured(config)
    } else {
        let waf = Waf { rules: Origin::Files(files.to_vec()), ..Waf::default() };
        rules::load(&waf).map_err(Failure::from)
    };
    let loaded = match loaded {
        Err(Failure::Rules(e)) if out.json => {
            out.print(&json!({ "good": false, "diagnostics": e.diagnostics }), |_| String::new());
            return Err(e.into());
        }
        other => other?,
    };
    let count = loaded.ruleset.rules().count();
    let value = json!({
        "good": true,
        "rules": count,
        "files": loaded.files,
        "milliseconds": loaded.took.as_millis() as u64,
        "diagnostics": loaded.notices,
    });
    out.print(&value, |_| {
        let mut text = String::new();
        for diagnostic in &loaded.notices {
            text.push_str(&format!("{diagnostic}\n"));
        }
        let warnings = loaded.notices.iter().filter(|d| d.level == Level::Warning).count();
        text.push_str(&format!(
            "good: {count} rules from {} files in {} ms, {warnings} warnings, {} notices\n",
            loaded.files.len(),
            loaded.took.as_millis(),
            loaded.notices.len() - warnings
        ));
        text
    });
    Ok(())
}

fn list(tag: Option<&str>, config: &ConfigArgs, out: Output) -> Result<(), Failure> {
    let loaded = configured(config)?;
    let chosen: Vec<_> =
        loaded.ruleset.rules().filter(|r| tag.is_none_or(|t| r.tags.iter().any(|have| have == t))).collect();
    let value = json!(chosen.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    out.print(&value, |_| {
        let rows: Vec<Vec<String>> = chosen
            .iter()
            .map(|r| {
                let severity = r.severity.map_or("-", gateway_waf::Severity::name);
                vec![r.id.to_string(), r.phase.to_string(), severity.to_owned(), r.msg.clone()]
            })
            .collect();
        table(&["ID", "PHASE", "SEVERITY", "MESSAGE"], &rows)
    });
    Ok(())
}

/// A request as a file holds it.
struct Request {
    line: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    fn read(file: &Path) -> Result<Self, Failure> {
        let bad = |reason: String| Failure::Request { file: file.to_owned(), reason };
        let size = std::fs::metadata(file).map_err(|e| bad(e.to_string()))?.len();
        if size > MAX_REQUEST_BYTES {
            return Err(bad(format!("the file has {size} bytes; at most {MAX_REQUEST_BYTES} are read")));
        }
        let bytes = std::fs::read(file).map_err(|e| bad(e.to_string()))?;
        let mut rest = bytes.as_slice();
        let line = take_line(&mut rest).to_vec();
        if line.split(|b| *b == b' ').count() < 2 {
            return Err(bad("the first line is no request line such as `GET /path HTTP/1.1`".to_owned()));
        }
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let field = take_line(&mut rest);
            if field.is_empty() {
                break;
            }
            let Some(colon) = field.iter().position(|b| *b == b':') else {
                let text = String::from_utf8_lossy(field).into_owned();
                return Err(bad(format!("`{text}` is no header field; an empty line ends the fields")));
            };
            fields.push((field[..colon].to_vec(), field[colon + 1..].trim_ascii().to_vec()));
        }
        Ok(Self { line, fields, body: rest.to_vec() })
    }

    /// Takes the request through the request phases.
    fn judge(&self, tx: &mut Transaction, client: std::net::IpAddr) -> Verdict {
        let unix_nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        tx.begin(&Connection {
            client: (client, 40_000).into(),
            server: ([192, 0, 2, 2], 443).into(),
            unix_nanos,
            utc_offset_seconds: 0,
            unique_id: "explain",
            web_app_id: "default",
        });
        tx.request_line_raw(&self.line);
        for (name, value) in &self.fields {
            tx.request_header(name, value);
        }
        let mut verdict = tx.request_headers();
        if !verdict.is_blocking() {
            if tx.wants_request_body() {
                tx.write_request_body(&self.body);
            }
            verdict = tx.request_body();
        }
        tx.logging(unix_nanos);
        verdict
    }
}

/// The bytes up to the line's end, which is LF or CRLF.
fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let (line, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn transaction(ruleset: &Arc<Ruleset>) -> Transaction {
    Transaction::new(Arc::clone(ruleset), Services::default())
}

fn explain(file: &Path, client: std::net::IpAddr, config: &ConfigArgs, out: Output) -> Result<(), Failure> {
    let loaded = configured(config)?;
    let request = Request::read(file)?;
    let mut tx = transaction(&loaded.ruleset);
    let verdict = request.judge(&mut tx, client);
    let value = json!({ "verdict": verdict, "scores": tx.scores(), "matches": tx.matches() });
    out.print(&value, |_| {
        let mut text = String::new();
        for matched in tx.matches() {
            text.push_str(&describe(matched));
        }
        let scores = tx.scores();
        text.push_str(&format!(
            "anomaly score {} of {}\n{}\n",
            scores.inbound,
            scores.inbound_threshold,
            match &verdict {
                Verdict::Deny { status, rule_id } => format!("refused with {status} by rule {rule_id}"),
                Verdict::Drop { rule_id } => format!("connection dropped by rule {rule_id}"),
                Verdict::Redirect { location, rule_id, .. } =>
                    format!("sent to {location} by rule {rule_id}"),
                Verdict::Pass | Verdict::Allow { .. } => "passes".to_owned(),
            }
        ));
        text
    });
    Ok(())
}

/// A match in words, with the exclusion to paste.
fn describe(matched: &MatchedRule) -> String {
    let rule = &matched.rule;
    let mut text = format!("{} {} ({}:{})\n", rule.id, matched.message, rule.file, rule.line);
    if !matched.data.is_empty() {
        text.push_str(&format!("  data: {}\n", matched.data));
    }
    for value in &matched.values {
        text.push_str(&format!("  {} = {}\n", value.variable, value.value));
    }
    let named = matched
        .values
        .iter()
        .map(|v| v.variable.to_string())
        .find(|v| v.contains(':') && !v.starts_with("TX"));
    if let Some(variable) = named {
        text.push_str(&format!(
            "  to exclude it: SecRuleUpdateTargetById {} \"!{}\"\n",
            rule.id,
            variable.replace('"', "\\\"")
        ));
    }
    text
}

/// The time of each request, with the rules that matched it.
fn profile(folder: &Path, rounds: u32, config: &ConfigArgs, out: Output) -> Result<(), Failure> {
    let loaded = configured(config)?;
    let unreadable = |e: std::io::Error| Failure::Request { file: folder.to_owned(), reason: e.to_string() };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(unreadable)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let mut tx = transaction(&loaded.ruleset);
    let client = std::net::IpAddr::from([192, 0, 2, 1]);
    let mut rows = Vec::new();
    for file in &files {
        let request = Request::read(file)?;
        request.judge(&mut tx, client);
        let started = Instant::now();
        for _ in 0..rounds {
            request.judge(&mut tx, client);
        }
        let micros = started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        let rules: Vec<u64> = tx.matches().iter().map(|m| m.rule.id).collect();
        rows.push((file.display().to_string(), micros, rules));
    }
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let value =
        json!(rows.iter().map(|(f, us, r)| json!({"request": f, "us": us, "rules": r})).collect::<Vec<_>>());
    out.print(&value, |_| {
        let cells: Vec<Vec<String>> =
            rows.iter().map(|(f, us, r)| vec![f.clone(), format!("{us:.1}"), format!("{r:?}")]).collect();
        table(&["REQUEST", "US", "RULES THAT MATCHED"], &cells)
    });
    if rows.is_empty() {
        write_out("no request files\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_files() {
        let file = std::env::temp_dir().join(format!("gateway-explain-{}", std::process::id()));
        std::fs::write(&file, "POST /x HTTP/1.1\nHost: a\r\nX-Y:  z \n\nbody\n").expect("file");
        let request = Request::read(&file).expect("request");
        assert_eq!(request.line, b"POST /x HTTP/1.1");
        assert_eq!(request.fields, [(b"Host".to_vec(), b"a".to_vec()), (b"X-Y".to_vec(), b"z".to_vec())]);
        assert_eq!(request.body, b"body\n");
        std::fs::write(&file, "nonsense").expect("file");
        assert!(Request::read(&file).is_err());
        std::fs::remove_file(&file).expect("file");
    }
}
