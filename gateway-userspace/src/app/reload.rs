//! Reading everything again: validated whole, then swapped; on any error what was stays in force.

use std::sync::{Arc, PoisonError};

use serde::Serialize;

use super::certificates;
use super::checked::tell_rules;
use super::error::AppError;
use super::parts::{Running, Watched, protected};
use super::{check, decisions, kernel, notify};
use crate::cli::ConfigArgs;
use crate::config::edge::Edge;
use crate::inspect::AuditTarget;
use crate::pipeline::Site;

/// What a reload did.
#[derive(Debug, Clone, Serialize)]
pub struct Reloaded {
    /// Rule files in force.
    pub rule_files: usize,
    /// Milliseconds that compiling them took.
    pub rules_ms: u64,
    /// Sections that changed but are only read at start.
    pub needs_restart: Vec<&'static str>,
}

/// Reads configuration, rules and certificates again.
///
/// # Errors
/// What is wrong; nothing was changed.
pub async fn reload(running: &Arc<Running>, args: &ConfigArgs) -> Result<Reloaded, String> {
    notify::reloading();
    let started = std::time::Instant::now();
    // Compiling takes a while: not on the runtime that keeps the watchdog fed.
    let (job, args) = (Arc::clone(running), ConfigArgs { config: args.config.clone() });
    let result = tokio::task::spawn_blocking(move || apply(&job, &args)).await;
    let result = result.unwrap_or_else(|e| Err(format!("the reload broke off: {e}")));
    notify::ready(&running.summary());
    match &result {
        Ok(done) => {
            tracing::info!(milliseconds = started.elapsed().as_millis() as u64, "reloaded");
            if !done.needs_restart.is_empty() {
                tracing::warn!(
                    "changed, but read only at start: [{}]. Restart the gateway for these.",
                    done.needs_restart.join("], [")
                );
            }
        }
        Err(problem) => tracing::error!("reload refused, all stays as it was:\n{problem}"),
    }
    result
}

fn apply(running: &Running, args: &ConfigArgs) -> Result<Reloaded, String> {
    let fail = |e: AppError| e.to_string();
    let fresh = check(args).map_err(fail)?;
    let config = &fresh.config;
    // The listeners are those of the start; what they ask clients for is not changed under them.
    let edge = Edge { listeners: running.config.edge.listeners.clone(), ..config.edge.clone() };
    let tls =
        certificates::settings(&edge, &running.resolver(), &running.provider).map_err(|e| e.to_string())?;
    let before = running.pipeline.site();
    let workers = running.config.server.workers;
    let ruleset = Arc::clone(&fresh.rules.ruleset);
    let audit = AuditTarget::of(&config.waf, &ruleset);
    let site = Site::new(&config.edge, config.waf.mode, ruleset, workers, Some(&before))
        .map_err(|e| e.to_string())?;
    // Here it delays no request; after the swap the first ones would each wait for the automata that they meet.
    fresh.rules.ruleset.warm_up();
    // From here on nothing is refused but by the system.
    if let Some(k) = running.kernel.as_ref().filter(|_| !running.has_released()) {
        kernel::apply_policy(k, &config.kernel).map_err(fail)?;
        k.set_allowlist(&kernel::targets(&config.kernel.allow), &kernel::targets(&protected(config)))
            .map_err(|e| e.to_string())?;
    }
    running.certificates.adopt(fresh.certificates);
    running.tls_config.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&config.edge.tls);
    running.put_tls(&tls);
    running.pipeline.set_site(site);
    running.pipeline.set_counted(config.bans.offences.clone());
    // On a thread that may wait; the task answers within its turn, or it has ended with the gateway.
    let stopped = tokio::runtime::Handle::current().block_on(decisions::configure(&running.bans, config));
    if let Err(error) = stopped {
        tracing::warn!(%error, "the bans keep their configuration");
    }
    running
        .admission
        .set_bounds(config.edge.http.max_connections, config.edge.http.max_connections_per_source);
    running.limiter.reload(&config.limits);
    running.audit.set(audit);
    running.spool.set(config.waf.spool.clone());
    running.log.set(&config.log);
    tell_rules(&fresh.rules);
    let done = Reloaded {
        rule_files: fresh.rules.files.len(),
        rules_ms: fresh.rules.took.as_millis() as u64,
        needs_restart: needs_restart(running, config),
    };
    *running.watched.lock().unwrap_or_else(PoisonError::into_inner) = Watched::new(fresh.rules.files);
    Ok(done)
}

/// The sections that differ from what the gateway was started with and are not taken over by a reload.
fn needs_restart(running: &Running, config: &crate::config::Config) -> Vec<&'static str> {
    let old = &running.config;
    let kernel_same = old.kernel.mode == config.kernel.mode
        && old.kernel.modes == config.kernel.modes
        && old.kernel.interfaces == config.kernel.interfaces
        && old.kernel.attach == config.kernel.attach
        && old.kernel.pin == config.kernel.pin
        && old.kernel.capacity == config.kernel.capacity
        && old.kernel.required == config.kernel.required;
    let log_same = old.log.format == config.log.format
        && old.log.access == config.log.access
        && old.log.access_format == config.log.access_format;
    let tls_same = old.edge.tls.acme == config.edge.tls.acme
        && old.edge.tls.handshake_timeout == config.edge.tls.handshake_timeout;
    [
        ("tls.acme, tls.handshake_timeout", tls_same),
        ("server", old.server == config.server),
        ("control", old.control == config.control),
        ("log", log_same),
        ("kernel", kernel_same),
        ("listeners", old.edge.listeners == config.edge.listeners),
        (
            "bans (database, max_buckets, cluster, crowdsec, feeds, geo)",
            !decisions::needs_restart(&old.bans, &config.bans),
        ),
        ("limit_store", old.limits.store == config.limits.store),
    ]
    .into_iter()
    .filter_map(|(name, same)| (!same).then_some(name))
    .collect()
}
