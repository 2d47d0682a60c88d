//! The decisions: their task, the cluster they are shared with, the feeds that add to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::drops::Drops;
use super::error::AppError;
use super::kernel;
use crate::bans;
use crate::bans::cluster::{self, ClusterState};
use crate::bans::crowdsec::{self, CrowdSecState};
use crate::bans::feed::{self, Feeds};
use crate::bans::geo::Geo;
use crate::bans::http::Client;
use crate::bans::{Offence, OffenceKind, Spared, Stopped};
use crate::client::{ClientId, IpNetwork};
use crate::config::{self, Config};
use crate::kernel::{DropEvent, Events, Kernel, Reason};

/// How often the kernel's drops are read.
const EVENTS_EVERY: Duration = Duration::from_millis(50);
/// Drops read in one turn: as many as the ring holds.
const EVENTS_A_TURN: usize = 4096;
/// The kernel's reasons that are offences of their source.
const LIMITS: [Reason; 4] = [Reason::RatePackets, Reason::RateBytes, Reason::RateSyn, Reason::Penalty];

/// The bans task with what stands around it.
pub struct Decisions {
    /// The hand on the task.
    pub handle: bans::Handle,
    /// How the cluster fares, where there is one.
    pub cluster: Option<Arc<ClusterState>>,
    /// How the feeds stand.
    pub feeds: Option<Arc<Feeds>>,
    /// How the CrowdSec neighbour fares, where there is one.
    pub crowdsec: Option<Arc<CrowdSecState>>,
    /// What the kernel dropped of late.
    pub drops: Arc<Drops>,
    /// Where addresses are, where there is a database.
    pub geo: Option<Arc<Geo>>,
}

/// Starts the bans task, joins the cluster and follows the feeds, as configured.
///
/// # Errors
/// When a database, a secret or a thread can't be had.
pub fn start(config: &Config, kernel: Option<&Arc<Kernel>>) -> Result<Decisions, AppError> {
    let database = config.bans.database.file(state_folder().as_deref());
    match &database {
        Some(file) => tracing::info!(file = %file.display(), "decisions are kept"),
        None => tracing::info!(
            "decisions end with the process: set `bans.database`, or run under a manager that gives a folder for state"
        ),
    }
    let failed = |e: &dyn std::fmt::Display| AppError::Bans(e.to_string());
    let geo = if config.bans.geo.country.is_none() && config.bans.geo.asn.is_none() {
        None
    } else {
        Some(Geo::open(&config.bans.geo).map_err(|e| failed(&e))?)
    };
    let bans_config = judged(config);
    let defaults = bans::Parts::default();
    let parts = bans::Parts {
        spared: spared(config),
        database,
        kernel: kernel.map(|k| Box::new(kernel::Writer(Arc::clone(k))) as Box<dyn bans::KernelWriter>),
        lists: kernel.map(|k| Box::new(kernel::Writer(Arc::clone(k))) as Box<dyn bans::KernelLists>),
        prompt: Some(prompt),
        asn_of: geo.clone().map(|geo| -> bans::AsnOf { Box::new(move |addr| geo.asn(addr)) }),
        node: config.bans.cluster.as_ref().map_or(defaults.node, |c| Arc::clone(&c.node)),
        clock: defaults.clock,
    };
    let handle = bans::start(&bans_config, parts).map_err(|e| AppError::Bans(e.to_string()))?;
    let cluster = match &config.bans.cluster {
        None => None,
        Some(shared) => {
            let longest = config.bans.escalation.maximum;
            Some(cluster::join(shared, longest, handle.clone()).map_err(|e| failed(&e))?.0)
        }
    };
    let feeds = if config.bans.feeds.is_empty() {
        None
    } else {
        let client = Client::new().map_err(|e| failed(&e))?;
        Some(feed::follow(config.bans.feeds.clone(), client, handle.clone()).0)
    };
    let crowdsec = match &config.bans.crowdsec {
        None => None,
        Some(neighbour) => {
            let packets = kernel.cloned().map(|kernel| -> crowdsec::Packets {
                Arc::new(move || {
                    let stats = kernel.stats();
                    (stats.passed + stats.dropped, stats.dropped)
                })
            });
            Some(crowdsec::follow(neighbour, packets, handle.clone()).map_err(|e| failed(&e))?.0)
        }
    };
    if let Some(geo) = &geo {
        geo.follow();
    }
    let drops = Arc::new(Drops::default());
    if let Some(kernel) = kernel {
        watch_kernel(kernel, &handle, &drops);
    }
    Ok(Decisions { handle, cluster, feeds, crowdsec, drops, geo })
}

/// Has the scheduler let this thread in soon; where it can't be asked, all goes on as it was.
fn prompt() {
    if let Err(error) = crate::kernel::prompt_thread() {
        tracing::debug!(%error, "the scheduler can't be asked to be prompt");
    }
}

/// The folder for state that the service manager gives; of several the first.
fn state_folder() -> Option<PathBuf> {
    let folders = std::env::var_os("STATE_DIRECTORY")?;
    std::env::split_paths(&folders).next().filter(|folder| folder.is_absolute())
}

/// Who is never banned, besides those that `[bans]` names.
fn spared(config: &Config) -> Spared {
    let own = crate::kernel::own_addresses().unwrap_or_default();
    Spared {
        allow: config.kernel.allow.clone(),
        trusted_proxies: config.edge.client.trusted_proxies.clone(),
        own: own.into_iter().map(IpNetwork::host).collect(),
    }
}

/// `[bans]` as it is judged by: switched off, operators' and others' decisions hold, but offences here lead to none.
fn judged(config: &Config) -> config::bans::Bans {
    let mut bans = config.bans.clone();
    if !bans.enabled {
        bans.scenarios.clear();
        bans.neighbours = None;
    }
    bans
}

/// Takes over what a reload may change: guard, scenarios, escalation, bounds, retention.
///
/// # Errors
/// The task is gone.
pub async fn configure(bans: &bans::Handle, config: &Config) -> Result<(), Stopped> {
    bans.configure(judged(config), spared(config)).await
}

/// The sections of `[bans]` that differ and are read at start only.
pub fn needs_restart(old: &config::bans::Bans, new: &config::bans::Bans) -> bool {
    let started_with = |b: &config::bans::Bans| {
        (
            b.database.clone(),
            b.max_buckets,
            b.cluster.clone(),
            b.crowdsec.clone(),
            b.feeds.clone(),
            b.geo.clone(),
        )
    };
    started_with(old) != started_with(new)
}

/// Reads the kernel's drops, keeps the latest and makes offences of those by its limits: sampled there under a budget, so
/// bounded.
fn watch_kernel(kernel: &Kernel, bans: &bans::Handle, drops: &Arc<Drops>) {
    let Some(events) = kernel.events() else { return };
    tokio::spawn(follow_kernel(events, bans.clone(), Arc::clone(drops)));
}

async fn follow_kernel(mut events: Events, bans: bans::Handle, drops: Arc<Drops>) {
    let mut turn = tokio::time::interval(EVENTS_EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        for event in std::iter::from_fn(|| events.next()).take(EVENTS_A_TURN) {
            if let Some(offence) = offence(&event) {
                bans.offend(offence);
            }
            drops.keep(event, SystemTime::now());
        }
    }
}

/// The offence that a drop tells of. Only limits: a banned client's packets, closed ports and what is malformed may be
/// anybody's, and what is only observed counts for nothing.
fn offence(event: &DropEvent) -> Option<Offence> {
    let is_limit = LIMITS.iter().any(|reason| reason.name() == event.reason);
    let source = event.source.filter(|_| is_limit && event.dropped)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Offence {
        at_ms: now.saturating_sub(event.age).as_millis() as u64,
        client: ClientId::direct(source),
        kind: OffenceKind::KernelLimit,
        weight: 1,
        rules: Vec::new(),
        subject: Some(event.reason.into()),
        request_id: None,
        ja4: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enforced_limits_are_offences() {
        let event = |reason: Reason, dropped, source: Option<&str>| DropEvent {
            age: Duration::ZERO,
            reason: reason.name(),
            ban_reason: None,
            dropped,
            source: source.map(|s| s.parse().expect("address")),
            destination: None,
            source_port: 0,
            destination_port: 0,
            protocol: 6,
            tcp_flags: 0,
            interface: 1,
            length: 60,
            matched: 0,
        };
        for (reason, dropped, source, expected) in [
            (Reason::RatePackets, true, Some("192.0.2.1"), true),
            (Reason::RateSyn, true, Some("2001:db8::1"), true),
            (Reason::Penalty, true, Some("192.0.2.1"), true),
            (Reason::RatePackets, false, Some("192.0.2.1"), false),
            (Reason::RatePackets, true, None, false),
            (Reason::BanHost, true, Some("192.0.2.1"), false),
            (Reason::Port, true, Some("192.0.2.1"), false),
            (Reason::SynGate, true, Some("192.0.2.1"), false),
        ] {
            let got = offence(&event(reason, dropped, source));
            assert_eq!(got.is_some(), expected, "{} {dropped} {source:?}", reason.name());
        }
    }
}
