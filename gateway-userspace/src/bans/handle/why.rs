//! `gateway why ADDRESS`: everything that is held for or against an address.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Handle, Stopped};
use crate::bans::feed::listed;
use crate::bans::task::Task;
use crate::bans::trust::{Record, Trust};
use crate::bans::{Action, Decision, Ended, Guarded, Level};
use crate::client::IpNetwork;

/// Most ended decisions that an answer tells of: the last ones.
pub const MAX_ENDED_TOLD: usize = 100;

/// What is held for or against an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Why {
    /// The address, canonical.
    pub address: IpAddr,
    /// In a sentence.
    pub summary: String,
    /// Why it is never banned, and by which network.
    pub guarded: Option<(IpNetwork, Guarded)>,
    /// Decisions that cover it, the widest first.
    pub decisions: Vec<Arc<Decision>>,
    /// Decisions that covered it, the last one first.
    pub ended: Vec<Arc<Ended>>,
    /// Lists that it is on.
    pub feeds: Vec<Listed>,
    /// Buckets that it has something in.
    pub levels: Vec<Level>,
    /// Its last offences.
    pub record: Option<Record>,
    /// How it stands.
    pub trust: Trust,
    /// Its requests, with half-lives of a minute and of an hour.
    pub requests: (f64, f64),
    /// Its autonomous system.
    pub asn: Option<u32>,
}

/// A list that an address is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The list.
    pub name: Arc<str>,
    /// Its network that covers the address.
    pub network: IpNetwork,
    /// What the list is for.
    pub action: Action,
    /// Whether the kernel is told of it.
    pub in_kernel: bool,
}

impl Handle {
    /// Explains how an address stands and why.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn why(&self, address: IpAddr) -> Result<Why, Stopped> {
        self.ask(move |task| why(task, address.to_canonical())).await
    }
}

fn why(task: &Task, address: IpAddr) -> Why {
    let now_ms = task.clock.now_ms();
    let engine = &task.engine;
    let guarded = engine.ledger.guard().guards(address);
    let decisions = engine.ledger.covering(address);
    let ended: Vec<Arc<Ended>> = engine
        .ledger
        .ended()
        .rev()
        .filter(|e| e.decision.scope.covers(address))
        .take(MAX_ENDED_TOLD)
        .cloned()
        .collect();
    let requests = task.rates.of(&task.shared.traffic, address);
    let sets = task.shared.feeds.load();
    let feeds: Vec<Listed> = listed(&sets, address)
        .iter()
        .map(|(feed, network)| Listed {
            name: feed.name.clone(),
            network: *network,
            action: feed.action,
            in_kernel: feed.action == Action::KernelBan,
        })
        .collect();
    let by_list = feeds.iter().max_by_key(|feed| feed.action).filter(|feed| feed.action > Action::Observe);
    let strongest = decisions.iter().max_by_key(|d| (d.action, d.end_or_max()));
    let summary = match (&guarded, strongest, by_list) {
        (Some((network, why)), ..) => format!("never banned: {network} belongs to {why}"),
        (None, Some(d), _) => format!("{} on {} by {}: {}", d.action, d.scope, d.origin, d.reason),
        (None, None, Some(feed)) => {
            format!("{} on {} by feed:{}", feed.action, feed.network, feed.name)
        }
        (None, None, None) if ended.is_empty() => "nothing is held against it".to_owned(),
        (None, None, None) => format!("nothing holds now; {} decisions of the past", ended.len()),
    };
    Why {
        address,
        summary,
        guarded,
        decisions,
        ended,
        feeds,
        levels: engine.scenarios.levels(address, engine.shares_network(address), now_ms),
        record: engine.memory.of(address).cloned(),
        trust: engine.trust(address, requests, now_ms),
        requests: (requests.short, requests.long),
        asn: task.asn_of.as_ref().and_then(|asn_of| asn_of(address)),
    }
}
