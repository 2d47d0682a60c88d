//! Certificates while the gateway runs: taken over when their files change, and told of before they end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;

use super::acme::{self, Resolver};
use super::parts::Running;
use crate::config::edge::{ClientCertificates, Edge, Listener, Tls};
use crate::listen::{self, CertificateError, Expiry, TlsError};
use crate::rules::{self, Stamp};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is asked what ends soon; a staple past its time is left off within this time.
const ASK: Duration = Duration::from_hours(1);

/// TLS settings in force: one for all listeners that ask clients for the same.
pub type Settings = Vec<(ClientCertificates, Arc<ArcSwap<ServerConfig>>)>;

/// What was seen last.
pub(super) struct Watch(Mutex<Seen>);

impl Watch {
    /// Looks at the files before they are read for the first time: what changes from then on is taken over.
    pub(super) fn begin(edge: &Edge) -> Self {
        let stamp = Some(rules::stamp(&files(&edge.tls, edge)));
        Self(Mutex::new(Seen { stamp, ..Seen::default() }))
    }
}

#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    looked: Option<Instant>,
    asked: Option<Instant>,
    expiry: Expiry,
}

/// Makes the settings of every TLS listener.
///
/// # Errors
/// The first that can't be made.
pub fn settings(
    edge: &Edge,
    resolver: &Arc<Resolver>,
    provider: &Arc<CryptoProvider>,
) -> Result<Settings, TlsError> {
    let mut all: Settings = Vec::new();
    for listener in edge.listeners.iter().filter(|l| l.tls) {
        if of(&all, listener).is_none() {
            let resolver = Arc::clone(resolver);
            let made = listen::server_config(&edge.tls, &listener.clients, resolver, Arc::clone(provider))?;
            all.push((listener.clients.clone(), Arc::new(ArcSwap::new(made))));
        }
    }
    Ok(all)
}

/// The settings of a listener; `None` without TLS.
pub fn of(all: &Settings, listener: &Listener) -> Option<Arc<ArcSwap<ServerConfig>>> {
    let mut found = all.iter().filter(|_| listener.tls);
    found.find(|(clients, _)| *clients == listener.clients).map(|(_, tls)| Arc::clone(tls))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// Every file that handshakes depend on.
fn files(tls: &Tls, edge: &Edge) -> Vec<PathBuf> {
    let certificates = acme::certificates(tls);
    let mut files: Vec<PathBuf> = certificates
        .into_iter()
        .flat_map(|c| [Some(c.certificate), Some(c.key_file), c.ocsp_file])
        .chain(edge.listeners.iter().map(|l| l.clients.ca.clone()))
        .chain([tls.ticket_keys_file.clone()])
        .flatten()
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

impl Running {
    /// Loads the certificates again; the old ones stay when anything is wrong.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn reload_certificates(&self) -> Result<(), CertificateError> {
        self.certificates.reload(&acme::certificates(&self.tls_in_force()), &self.provider, now())
    }

    /// Looks whether a file of TLS has changed, and takes it over; tells of what ends soon. Cheap: call it each second.
    pub fn look_after_certificates(&self) {
        let mut seen = self.certificate_watch.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tls = self.tls_in_force();
        let is_due = |last: Option<Instant>, every| last.is_none_or(|at: Instant| at.elapsed() >= every);
        if tls.watch && is_due(seen.looked, LOOK) {
            seen.looked = Some(Instant::now());
            // Looked at before they are read: a change in between is seen the next time.
            let stamp = rules::stamp(&files(&tls, &self.config.edge));
            let has_changed = seen.stamp.as_ref().is_some_and(|before| *before != stamp);
            // A file that is bad is told once, not every two seconds.
            seen.stamp = Some(stamp);
            if has_changed {
                self.take_over(&tls);
                seen.asked = None;
            }
        }
        if is_due(seen.asked, ASK) {
            seen.asked = Some(Instant::now());
            let status = self.certificates.status();
            for warning in seen.expiry.look(&status, now()) {
                tracing::warn!(days = warning.days, "{warning}");
            }
            if status.iter().any(|c| c.staple_until.is_some_and(|end| end <= now())) {
                // Loading leaves off what is past its time.
                let _ = self.reload_certificates();
            }
        }
    }

    fn take_over(&self, tls: &Tls) {
        if let Err(e) = self.reload_certificates() {
            tracing::error!("a changed certificate is not taken over, the old ones stay: {e}");
            return;
        }
        let edge = Edge { tls: tls.clone(), ..self.config.edge.clone() };
        match settings(&edge, &self.resolver(), &self.provider) {
            Ok(fresh) => {
                self.put_tls(&fresh);
                tracing::info!("certificates read again");
            }
            Err(e) => tracing::error!("a changed file of TLS is not taken over, the old one stays: {e}"),
        }
    }

    /// What answers handshakes.
    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::new(Resolver::new(Arc::clone(&self.certificates), Arc::clone(&self.challenges)))
    }

    /// Puts fresh settings in force for the listeners that run.
    pub(super) fn put_tls(&self, fresh: &Settings) {
        for (clients, current) in &self.tls {
            if let Some((_, new)) = fresh.iter().find(|(c, _)| c == clients) {
                current.store(new.load_full());
            }
        }
    }
}
