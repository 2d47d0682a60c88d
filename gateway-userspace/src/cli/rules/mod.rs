//! `gateway rules`: check, list and explain rules without a running gateway.

mod profile;
mod request;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use gateway_waf::{Level, MatchedRule, Ruleset, Services, Transaction, Verdict};
use serde_json::json;

use super::output::{Output, table};
use super::{ConfigArgs, exit};
use crate::config::waf::{Rules as Origin, Waf};
use crate::rules::{self, Loaded, RulesError};
use request::Request;

/// The verbs of `gateway rules`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile rules and say everything there is to say about them.
    Check {
        /// Rule files, globs or folders with a Core Rule Set; default: those of the configuration.
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
        /// Show rules that match without logging as well.
        #[arg(long)]
        all: bool,
        /// The number of a route's policy is found by its name: what the route excludes and sets counts.
        #[arg(long)]
        route: Option<String>,
        /// The client's address.
        #[arg(long, default_value = "192.0.2.1")]
        client: std::net::IpAddr,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// What requests and rules cost, the dearest first: each request judged many times over, and each rule by itself.
    Profile {
        /// A folder of request files (as for `explain`), or an access log in JSON.
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
    #[error("there is no route `{0}` in the configuration")]
    Route(String),
    #[error("{}: {reason}", file.display())]
    Request { file: PathBuf, reason: String },
}

/// Runs a verb.
pub fn run(command: &Command, out: Output) -> ExitCode {
    let result = match command {
        Command::Check { files, config } => check(files, config, out),
        Command::List { tag, config } => list(tag.as_deref(), config, out),
        Command::Explain { request, all, route, client, config } => {
            explain(request, *all, route.as_deref(), *client, config, out)
        }
        Command::Profile { requests, rounds, config } => profile::run(requests, *rounds, config, out),
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

fn transaction(ruleset: &Arc<Ruleset>) -> Transaction {
    Transaction::new(Arc::clone(ruleset), Services::default())
}

fn explain(
    file: &Path,
    all: bool,
    route: Option<&str>,
    client: std::net::IpAddr,
    config: &ConfigArgs,
    out: Output,
) -> Result<(), Failure> {
    let config = config.load()?.config;
    let loaded = rules::load(&config.waf)?;
    let policy = match route {
        None => 0,
        Some(name) => {
            let route = config.edge.routes.iter().find(|r| &*r.name == name);
            route.ok_or_else(|| Failure::Route(name.to_owned()))?.waf_policy
        }
    };
    let request = Request::read(file)?;
    let mut tx = transaction(&loaded.ruleset);
    tx.record_all(all);
    let verdict = request.judge(&mut tx, client, policy);
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
    if !rule.transformations.is_empty() {
        text.push_str(&format!("  after {}\n", rule.transformations.join(", ")));
    }
    let named = matched
        .values
        .iter()
        .map(|v| v.variable.to_string())
        .find(|v| v.contains(':') && !v.starts_with("TX"));
    if let Some(variable) = named {
        let variable = variable.replace('"', "\\\"");
        text.push_str(&format!(
            "  to exclude it everywhere: SecRuleUpdateTargetById {id} \"!{variable}\"\n  \
             to exclude it on a route: waf_exclude = [{{ id = {id}, target = \"{variable}\" }}]\n",
            id = rule.id,
        ));
    }
    text
}
