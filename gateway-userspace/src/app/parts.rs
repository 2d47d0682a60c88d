//! Every part of the gateway, built and kept together.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gateway_waf::Ruleset;
use rustls::crypto::CryptoProvider;

use super::acme::Resolver;
use super::adapters::{Denials, Limits, Places};
use super::capture::Captures;
use super::certificates::{self as tls_files, Watch};
use super::checked::Checked;
use super::decisions::{self, Decisions};
use super::drops::Drops;
use super::error::AppError;
use super::handover::TakeOver;
use super::push_back::PushBack;
use super::{kernel, starting, watch_every, xdp};
use crate::access::{self, AccessLog};
use crate::acme::Challenges;
use crate::admin::{Health, Phase};
use crate::bans;
use crate::bans::cluster::ClusterState;
use crate::bans::crowdsec::CrowdSecState;
use crate::bans::feed::Feeds;
use crate::bans::geo::Geo;
use crate::client::IpNetwork;
use crate::config::Config;
use crate::config::edge::Tls;
use crate::config::waf::Waf;
use crate::http::{Server, ServerParts};
use crate::inspect::{self, AuditLog, AuditTarget, AuditWriter, Inspector, Spool};
use crate::kernel::{Attachment, Kernel};
use crate::limits::{Clock, Limiter};
use crate::listen::{self, Acceptor, Admission, Bound, Certificates, TlsNumbers};
use crate::pipeline::{Offences, Parts, Pipeline, PlaceOf, Site};
use crate::rules::{self, Stamp};
use crate::telemetry::LogControl;

/// The parts of a gateway that runs.
pub struct Running {
    /// What it was started with.
    pub config: Config,
    pub(super) file: Option<PathBuf>,
    pub(super) log: LogControl,
    pub(super) health: Arc<Health>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) spool: Arc<Spool>,
    pub(super) watched: Mutex<Watched>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) challenges: Arc<Challenges>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) tls: tls_files::Settings,
    pub(super) certificate_watch: Watch,
    pub(super) tls_config: Mutex<Tls>,
    pub(super) admission: Arc<Admission>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) limiter: Limiter,
    pub(super) push_back: PushBack,
    clock: Clock,
    pub(super) access: Arc<AccessLog>,
    pub(super) bans: bans::Handle,
    pub(super) cluster: Option<Arc<ClusterState>>,
    pub(super) feeds: Option<Arc<Feeds>>,
    pub(super) crowdsec: Option<Arc<CrowdSecState>>,
    pub(super) geo: Option<Arc<Geo>>,
    pub(super) kernel: Option<Arc<Kernel>>,
    pub(super) attached: Mutex<Vec<Attachment>>,
    pub(super) captures: Captures,
    pub(super) drops: Arc<Drops>,
    listeners: Mutex<Vec<(Bound, Acceptor)>>,
    pub(super) server: Mutex<Option<Server>>,
    access_writer: Mutex<Option<access::Writer>>,
    audit_writer: Mutex<Option<AuditWriter>>,
    pub(super) started: Instant,
    /// Whether a successor holds what only one process may hold.
    released: AtomicBool,
}

/// The rule files in force and how they looked.
pub(super) struct Watched {
    pub(super) files: Vec<PathBuf>,
    pub(super) stamp: Stamp,
    pub(super) looked: Instant,
}

impl Watched {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let stamp = rules::stamp(&files);
        Self { files, stamp, looked: Instant::now() }
    }
}

impl Running {
    /// Builds and connects every part; sockets listen, nothing is accepted yet.
    ///
    /// # Errors
    /// What can't be had: ports, the kernel side, files.
    pub fn start(
        checked: Checked,
        log: LogControl,
        handed_over: Vec<TcpListener>,
        before: Option<&TakeOver>,
    ) -> Result<Self, AppError> {
        let Checked { config, file, rules: loaded, certificates, certificate_watch, provider } = checked;
        let workers = config.server.workers;
        let bound = listen::bind(&config.edge.listeners, handed_over)?;
        let protected: Vec<IpNetwork> = protected(&config);
        // As late as possible: until here whoever runs now loses nothing when this start fails.
        if let Some(before) = before {
            before.release().map_err(AppError::TakeOver)?;
        }
        let (kernel, attached) = kernel::open(&config.kernel, &protected)?.unzip();
        let attached = attached.unwrap_or_default();
        // What fails from here on takes the program off again.
        let unless_started = kernel.as_ref().map(kernel::GiveUp::new);
        let Decisions { handle: bans, cluster, feeds, crowdsec, drops, geo } =
            decisions::start(&config, kernel.as_ref())?;
        let certificates = Arc::new(certificates);
        let challenges = Arc::new(Challenges::default());
        let resolver = Arc::new(Resolver::new(Arc::clone(&certificates), Arc::clone(&challenges)));
        let tls = tls_files::settings(&config.edge, &resolver, &provider)?;
        let (access, access_writer) = access::start(&config.log, workers).map_err(AppError::AccessLog)?;
        let limiter = Limiter::new(&config.limits, random());
        let push_back = PushBack::start(&bans, config.bans.enabled);
        let ruleset = Arc::clone(&loaded.ruleset);
        let cold = Arc::clone(&ruleset);
        // Serving begins meanwhile.
        tokio::task::spawn_blocking(move || cold.warm_up());
        let spool = Arc::new(Spool::new(config.waf.spool.clone()));
        let (audit, audit_writer) = audit(&config.waf, &ruleset)?;
        let pipeline = Arc::new(Pipeline::new(Parts {
            site: Site::new(&config.edge, config.waf.mode, ruleset, workers, None)?,
            inspector: Inspector::new(
                workers,
                services(&config.waf, geo.clone()),
                Some(Arc::clone(&audit)),
                Arc::clone(&spool),
            ),
            access: Arc::clone(&access),
            deny_list: Some(Arc::new(Denials { bans: bans.clone(), geo: geo.clone() })),
            places: geo.clone().map(|geo| -> Arc<dyn PlaceOf> { Arc::new(Places(geo)) }),
            limits: Some(Arc::new(Limits::new(limiter.clone(), geo.clone(), push_back.clone()))),
            offences: Offences::new(Some(Arc::new(bans.clone()))),
            counted: config.bans.offences.clone(),
            well_known: {
                let challenges = Arc::clone(&challenges);
                Some(Arc::new(move |token: &str| challenges.http_01(token)))
            },
        }));
        let http = &config.edge.http;
        let admission =
            Arc::new(Admission::new(bound.len(), http.max_connections, http.max_connections_per_source));
        let timeout = config.edge.tls.handshake_timeout;
        let handshakes = Arc::new(TlsNumbers::default());
        let listeners = bound
            .into_iter()
            .map(|bound| {
                let settings = tls_files::of(&tls, &bound.listener);
                let acceptor = Acceptor::new(&bound.listener, settings, timeout, Arc::clone(&handshakes));
                (bound, acceptor)
            })
            .collect();
        unless_started.into_iter().for_each(kernel::GiveUp::never_mind);
        Ok(Self {
            file,
            log,
            health: starting(),
            audit,
            spool,
            watched: Mutex::new(Watched::new(loaded.files)),
            certificates,
            challenges,
            provider,
            tls,
            certificate_watch,
            tls_config: Mutex::new(config.edge.tls.clone()),
            admission,
            pipeline,
            limiter,
            push_back,
            clock: Clock::start(),
            access,
            bans,
            cluster,
            feeds,
            crowdsec,
            geo,
            kernel,
            attached: Mutex::new(attached),
            captures: xdp::captures(),
            drops,
            listeners: Mutex::new(listeners),
            server: Mutex::new(None),
            access_writer: Mutex::new(Some(access_writer)),
            audit_writer: Mutex::new(Some(audit_writer)),
            started: Instant::now(),
            released: AtomicBool::new(false),
            config,
        })
    }

    /// Opens the log files anew, after a log rotation.
    pub fn reopen_logs(&self) {
        self.access.reopen();
        self.audit.reopen();
    }

    /// Starts the workers: from here on requests are answered.
    ///
    /// # Errors
    /// When a worker can't be started.
    pub fn serve(&self, health: &Health) -> Result<(), AppError> {
        let listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        let server = Server::start(ServerParts {
            listeners,
            admission: Arc::clone(&self.admission),
            pipeline: Arc::clone(&self.pipeline),
            workers: self.config.server.workers,
            cpus: self.config.server.cpus.clone(),
        })?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        health.set(Phase::Ready);
        Ok(())
    }

    /// `[tls]` as it was read last.
    pub(super) fn tls_in_force(&self) -> Tls {
        self.tls_config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the kernel side that the daemon lives.
    pub fn beat(&self) {
        if let Some(kernel) = self.kernel.as_ref().filter(|_| !self.has_released()) {
            kernel.heartbeat();
            self.captures.expire(kernel);
        }
    }

    /// The start failed: the program goes off the interfaces that had none before.
    pub fn give_up(&self) {
        if let Some(kernel) = &self.kernel {
            kernel.give_up();
        }
    }

    /// Clears what has expired from the kernel's tables.
    pub fn sweep(&self) {
        if let Some(kernel) = self.kernel.as_ref().filter(|_| !self.has_released()) {
            kernel.sweep();
        }
    }

    /// Frees the memory of limits' keys that are past their time: a hundredth of them each time.
    pub fn forget_limits(&self) {
        self.limiter.sweep(self.clock.now());
    }

    /// Whether a rule file changed since the last look; looks at most every two seconds.
    pub fn rules_changed(&self) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.looked.elapsed() < watch_every() || watched.files.is_empty() {
            return false;
        }
        watched.looked = Instant::now();
        let now = rules::stamp(&watched.files);
        let changed = now != watched.stamp;
        // A file that is bad is told once, not every two seconds.
        watched.stamp = now;
        changed
    }

    /// The listening sockets, for a successor.
    pub(super) fn listening(&self) -> Vec<Arc<TcpListener>> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.iter().flat_map(Server::listeners).map(|bound| Arc::clone(&bound.socket)).collect()
    }

    /// Lets go of the decisions' database and the kernel's tables, for a successor.
    pub(super) async fn release(&self) {
        self.released.store(true, Relaxed);
        self.bans.stop().await;
        if let Some(kernel) = &self.kernel {
            kernel.let_go();
        }
    }

    /// Whether a successor holds them.
    pub(super) fn has_released(&self) -> bool {
        self.released.load(Relaxed)
    }

    /// Stops accepting, lets connections finish, stops the workers; the connections that were cut off.
    pub fn drain(&self) -> u64 {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.map_or(0, |server| server.drain(self.config.server.drain))
    }

    /// Writes what is still in memory.
    pub async fn close(&self) {
        self.bans.stop().await;
        drop(self.access_writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.audit_writer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Whom the kernel must never ban, besides the allowlist and this host itself.
pub(super) fn protected(config: &Config) -> Vec<IpNetwork> {
    config.edge.client.trusted_proxies.iter().chain(&config.bans.management).copied().collect()
}

/// Records of the rules' persistent collections (`initcol`): IP, SESSION and the others together.
const COLLECTION_RECORDS: usize = 65_536;

/// The audit log. A file that the configuration names has to open; one that only the rules name (a path of another
/// machine's, often) is left out with a warning.
fn audit(waf: &Waf, ruleset: &Ruleset) -> Result<(Arc<AuditLog>, AuditWriter), AppError> {
    let target = AuditTarget::of(waf, ruleset);
    match inspect::start_audit(target.clone()) {
        Err(e) if waf.audit_log.is_none() && target.log.is_some() => {
            tracing::warn!("no audit log: {e}");
            inspect::start_audit(AuditTarget { log: None, ..target }).map_err(AppError::AuditLog)
        }
        started => started.map_err(AppError::AuditLog),
    }
}

/// What rules may use beside the request.
fn services(waf: &Waf, geo: Option<Arc<Geo>>) -> gateway_waf::Services {
    let store = gateway_waf::collections::MemoryStore::new(COLLECTION_RECORDS);
    let geo = geo.map(|geo| -> Arc<dyn gateway_waf::operators::GeoLookup> { Arc::new(Places(geo)) });
    gateway_waf::Services {
        store: Some(Arc::new(store)),
        upload_memory: Some(usize::try_from(waf.spool.above).unwrap_or(usize::MAX)),
        geo,
        ..gateway_waf::Services::default()
    }
}

/// Two words that nobody outside can guess: the standard library's hash keys come from the system.
fn random() -> [u64; 2] {
    [RandomState::new().hash_one(0), RandomState::new().hash_one(1)]
}
