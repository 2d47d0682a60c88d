//! The configuration file: TOML text -> raw sections -> checked types.
//!
//! Each section has a file here with its raw form (what an operator may write; unknown fields are
//! refused) and its checked form (what the rest of the daemon gets; illegal states don't exist).
//! Checking collects every problem with its place before anything is refused. This module imports
//! nothing of the runtime: configuration is data.

pub mod bans;
pub mod control;
pub mod duration;
pub mod edge;
pub mod kernel;
pub mod kernel_capacity;
pub mod kernel_flood;
pub mod kernel_policy;
pub mod limits;
pub mod log;
pub mod policy;
mod problems;
pub mod server;
pub mod waf;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use duration::{Size, Span};
pub use problems::{ConfigError, Problem, Problems};

/// Largest configuration file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// The whole file as written. Sections are named here one by one, not flattened: a flattened
/// section loses the places of its values.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    server: server::Raw,
    control: control::Raw,
    log: log::Raw,
    kernel: kernel::Raw,
    waf: waf::Raw,
    listeners: Vec<edge::RawListener>,
    tls: edge::RawTls,
    client: edge::RawClient,
    http: edge::RawHttp,
    upstreams: Vec<edge::RawUpstream>,
    routes: Vec<edge::RawRoute>,
    limits: Vec<limits::RawLimit>,
    limit_store: limits::RawStore,
    limit_challenge: limits::RawChallenge,
    bans: bans::Raw,
}

/// A configuration that was checked whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// Workers, draining.
    pub server: server::Server,
    /// The control socket and listener.
    pub control: control::Control,
    /// Logs.
    pub log: log::Log,
    /// The XDP side.
    pub kernel: kernel::Kernel,
    /// The rule engine.
    pub waf: waf::Waf,
    /// Listeners, certificates, client identity, routes, upstreams, responses.
    pub edge: edge::Edge,
    /// Rate limits and their stores.
    pub limits: limits::Limits,
    /// Offences, scenarios, the ledger.
    pub bans: bans::Bans,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every problem of the file, with line, column and remedy.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let whole = |message: String| ConfigError {
            problems: vec![Problem { file: file.to_owned(), line: 0, column: 0, message }],
        };
        let unreadable = |e: std::io::Error| {
            whole(format!("the configuration can't be read: {e}. Name a readable file with --config."))
        };
        let size = std::fs::metadata(file).map_err(unreadable)?.len();
        if size > MAX_FILE_BYTES {
            return Err(whole(format!("the file has {size} bytes; at most {MAX_FILE_BYTES} are read")));
        }
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        Self::parse(file, &text)
    }

    /// Checks the text of a file; `file` names it in problems, and its folder is where relative paths start.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut problems = Problems::new(file, text);
        let raw: Raw = match toml::from_str(text) {
            Ok(raw) => raw,
            Err(e) => {
                let message = e.message().trim_end_matches('.').to_owned();
                let message = format!("{message}. docs/configuration.md lists every key.");
                match e.span() {
                    Some(span) => problems.at(span, message),
                    None => problems.whole(message),
                }
                return Err(ConfigError { problems: problems.into_sorted() });
            }
        };
        let base = Base(file.parent().unwrap_or(Path::new("")).to_owned());
        let p = &mut problems;
        let mut policies = policy::Policies::default();
        let edge = edge::check(
            edge::RawEdge {
                listeners: raw.listeners,
                tls: raw.tls,
                client: raw.client,
                http: raw.http,
                upstreams: raw.upstreams,
                routes: raw.routes,
            },
            &mut policies,
            &base,
            p,
        );
        let max_decisions_at = raw.bans.max_decisions_at();
        let config = Self {
            server: server::check(raw.server, p),
            control: control::check(raw.control, p),
            log: log::check(raw.log, &base, p),
            kernel: kernel::check(raw.kernel, p),
            waf: waf::check(raw.waf, policies.into_list(), &base, p),
            limits: limits::check(raw.limits, raw.limit_store, raw.limit_challenge, &base, p),
            bans: bans::check(raw.bans, &base, p),
            edge,
        };
        kernel_capacity::contradictions(&config.kernel, &config.bans, max_decisions_at, p);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems: problems.into_sorted() }) }
    }
}

/// The folder of the configuration file: relative paths in it start there.
#[derive(Debug, Clone)]
pub struct Base(PathBuf);

impl Base {
    /// The path that `written` means.
    pub fn path(&self, written: &str) -> PathBuf {
        self.0.join(written)
    }
}

#[cfg(test)]
mod tests;
