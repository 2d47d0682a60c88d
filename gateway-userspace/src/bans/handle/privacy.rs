//! `gateway privacy export|erase ADDRESS`: what is kept about an address, and its end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Handle, Stopped};
use crate::bans::store::Op;
use crate::bans::task::Task;
use crate::bans::trust::Record;
use crate::bans::{Decision, Ended};
use crate::client::IpNetwork;

/// Everything kept about a network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Export {
    /// Decisions that hold on scopes that share an address with it.
    pub decisions: Vec<Arc<Decision>>,
    /// Ended decisions, the oldest first.
    pub ended: Vec<Arc<Ended>>,
    /// Clients in it, with their last offences.
    pub clients: Vec<(IpNetwork, Record)>,
}

/// What was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Ended decisions, on disk too.
    pub ended: usize,
    /// Clients whose offences were remembered.
    pub clients: usize,
    /// Decisions that still hold: they are needed until they end, or are removed by an operator.
    pub kept: usize,
}

impl Handle {
    /// Tells everything that is kept about a network.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn privacy_export(&self, network: IpNetwork) -> Result<Export, Stopped> {
        self.ask(move |task| export(task, &network)).await
    }

    /// Forgets what is kept about a network: ended decisions, offences, buckets, past bans. Decisions
    /// that hold stay.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn privacy_erase(&self, network: IpNetwork) -> Result<Erased, Stopped> {
        self.ask(move |task| erase(task, &network)).await
    }
}

fn export(task: &Task, network: &IpNetwork) -> Export {
    let meets = |d: &Decision| d.scope.network().is_some_and(|n| n.overlaps(network));
    let engine = &task.engine;
    Export {
        decisions: engine.ledger.iter().filter(|d| meets(d)).cloned().collect(),
        ended: engine.ledger.ended().filter(|e| meets(&e.decision)).cloned().collect(),
        clients: engine
            .memory
            .iter()
            .filter(|(client, _)| network.overlaps(client))
            .map(|(client, record)| (*client, record.clone()))
            .collect(),
    }
}

fn erase(task: &mut Task, network: &IpNetwork) -> Erased {
    let engine = &mut task.engine;
    let ended = engine.ledger.erase_ended(network);
    let clients = engine.memory.forget(Some(network), 0);
    engine.scenarios.forget(network);
    let kept =
        engine.ledger.iter().filter(|d| d.scope.network().is_some_and(|n| n.overlaps(network))).count();
    let erased = Erased { ended: ended.len(), clients, kept };
    if let Some(store) = task.store.as_ref().filter(|_| !ended.is_empty()) {
        store.append(vec![Op::Erase(ended)]);
    }
    erased
}
