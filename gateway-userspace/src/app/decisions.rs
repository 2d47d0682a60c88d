//! The decisions: their task, the cluster they are shared with, the feeds that add to them.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::AppError;
use super::kernel;
use crate::bans;
use crate::bans::cluster::{self, ClusterState};
use crate::bans::crowdsec::{self, CrowdSecState};
use crate::bans::feed::{self, Feeds};
use crate::bans::geo::Geo;
use crate::bans::http::Client;
use crate::client::IpNetwork;
use crate::config::Config;
use crate::kernel::Kernel;
use crate::pipeline::Offences;

/// Offences on their way from the workers to the bans task.
const OFFENCES: usize = 4096;

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
    /// Where addresses are, where there is a database.
    pub geo: Option<Arc<Geo>>,
}

/// Starts the bans task, joins the cluster and follows the feeds, as configured.
///
/// # Errors
/// When a database, a secret or a thread can't be had.
pub fn start(config: &Config, kernel: Option<&Arc<Kernel>>) -> Result<Decisions, AppError> {
    let own = crate::kernel::own_addresses().unwrap_or_default();
    // The bans that the kernel kept from before hold on: a ledger without a database learns them from there.
    let kept = match kernel {
        Some(kernel) if config.bans.database.is_none() => kernel::decisions(kernel),
        _ => Vec::new(),
    };
    let failed = |e: &dyn std::fmt::Display| AppError::Bans(e.to_string());
    let geo = if config.bans.geo.country.is_none() && config.bans.geo.asn.is_none() {
        None
    } else {
        Some(Geo::open(&config.bans.geo).map_err(|e| failed(&e))?)
    };
    let mut bans_config = config.bans.clone();
    if !bans_config.enabled {
        // Operators' and others' decisions hold; offences here lead to none.
        bans_config.scenarios.clear();
        bans_config.neighbours = None;
    }
    let defaults = bans::Parts::default();
    let parts = bans::Parts {
        allow: config.kernel.allow.clone(),
        trusted_proxies: config.edge.client.trusted_proxies.clone(),
        own: own.into_iter().map(IpNetwork::host).collect(),
        kernel: kernel.map(|k| {
            Box::new(kernel::Writer::new(Arc::clone(k), !kept.is_empty())) as Box<dyn bans::KernelWriter>
        }),
        asn_of: geo.clone().map(|geo| -> bans::AsnOf { Box::new(move |addr| geo.asn(addr)) }),
        node: config.bans.cluster.as_ref().map_or(defaults.node, |c| Arc::clone(&c.node)),
        clock: defaults.clock,
    };
    let handle = bans::start(&bans_config, parts).map_err(|e| AppError::Bans(e.to_string()))?;
    if !kept.is_empty() {
        let restored = handle.clone();
        tokio::spawn(async move {
            match restored.import(kept).await {
                Ok(report) => tracing::info!(bans = report.added, "bans taken over from the kernel"),
                Err(e) => tracing::warn!("the kernel's bans can't be taken over: {e}"),
            }
        });
    }
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
            let client = Client::new().map_err(|e| failed(&e))?;
            Some(crowdsec::follow(neighbour, client, handle.clone()).map_err(|e| failed(&e))?.0)
        }
    };
    if let Some(geo) = &geo {
        geo.follow();
    }
    Ok(Decisions { handle, cluster, feeds, crowdsec, geo })
}

/// The workers' way to the bans task: a bounded channel that never waits, and a task that empties it.
pub fn offences(bans: &bans::Handle) -> Offences {
    let (sender, mut receiver) = mpsc::channel(OFFENCES);
    let bans = bans.clone();
    tokio::spawn(async move {
        while let Some(offence) = receiver.recv().await {
            bans.offend(offence);
        }
    });
    Offences::new(Some(sender))
}
