//! The configuration and all that it names, read and found good before anything is started.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::acme;
use super::certificates::{self as tls_files, Watch};
use super::error::AppError;
use crate::cli::ConfigArgs;
use crate::config::Config;
use crate::limits::Clearances;
use crate::listen::Certificates;
use crate::rules::{self, Loaded};

/// Rule diagnostics told in the log; the rest are counted (`gateway check` tells all).
const NOTICES_TOLD: usize = 20;

/// A configuration with everything that it names read and found good.
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Its file; none for the embedded defaults.
    pub file: Option<PathBuf>,
    /// The rules, compiled.
    pub rules: Loaded,
    /// The certificates, loaded.
    pub certificates: Certificates,
    pub(super) certificate_watch: Watch,
    pub(super) provider: Arc<CryptoProvider>,
}

/// Reads the configuration and all it names, and starts nothing.
///
/// # Errors
/// Everything that is wrong with the first thing that is wrong.
pub fn check(args: &ConfigArgs) -> Result<Checked, AppError> {
    let loaded = args.load()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let rules = rules::load(&loaded.config.waf)?;
    let certificate_watch = Watch::begin(&loaded.config.edge);
    let configured = acme::certificates(&loaded.config.edge.tls);
    let certificates = Certificates::load(&configured, &provider, tls_files::now())?;
    if let Some(challenge) = &loaded.config.limits.challenge {
        Clearances::read(challenge)?;
    }
    Ok(Checked { config: loaded.config, file: loaded.file, rules, certificates, certificate_watch, provider })
}

impl Checked {
    /// What was checked, for people.
    pub fn report(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for notice in &self.rules.notices {
            let _ = writeln!(text, "{notice}");
        }
        for notice in &self.config.limits.notices {
            let _ = writeln!(text, "{notice}");
        }
        let file = self.file.as_ref().map_or_else(|| "embedded defaults".into(), |f| f.display().to_string());
        let _ = writeln!(
            text,
            "{file}: good. {} listeners, {} certificates, {} upstreams, {} routes, {} limits; rules from {} files.",
            self.config.edge.listeners.len(),
            self.config.edge.tls.certificates.len(),
            self.config.edge.upstreams.len(),
            self.config.edge.routes.len(),
            self.config.limits.limits.len(),
            self.rules.files.len()
        );
        text
    }

    /// Writes to the log what it found.
    pub(super) fn tell(&self) {
        match &self.file {
            Some(file) => tracing::info!(file = %file.display(), "configuration read"),
            None => tracing::info!("no configuration file: running on the embedded defaults"),
        }
        tell_rules(&self.rules);
    }
}

/// Writes to the log what compiling the rules had to say.
pub(super) fn tell_rules(rules: &Loaded) {
    for notice in rules.notices.iter().take(NOTICES_TOLD) {
        tracing::warn!("{notice}");
    }
    let more = rules.notices.len().saturating_sub(NOTICES_TOLD);
    if more > 0 {
        tracing::warn!("{more} more remarks on the rules: `gateway check` tells all");
    }
    tracing::info!(files = rules.files.len(), milliseconds = rules.took.as_millis() as u64, "rules compiled");
}
