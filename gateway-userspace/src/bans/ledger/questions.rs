//! What can be asked of the ledger.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Ended, Ledger};
use crate::bans::{Action, Decision, DecisionId, Guard, Origin, Scope};
use crate::client::IpNetwork;

impl Ledger {
    /// The guard.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// How long ended decisions are kept, in milliseconds.
    pub fn retain_ms(&self) -> u64 {
        self.retain_ms
    }

    /// Decisions that hold.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none holds.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many decisions of an origin hold.
    pub fn held_by(&self, origin: &Origin) -> usize {
        self.by_origin.get(origin).copied().unwrap_or(0)
    }

    /// A decision that holds.
    pub fn get(&self, id: DecisionId) -> Option<&Arc<Decision>> {
        self.held.get(&id)
    }

    /// All that hold, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Decision>> {
        self.held.values()
    }

    /// Ended decisions that are still kept, the oldest first.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &Arc<Ended>> {
        self.ended.iter()
    }

    /// Whether a decision was taken back here, of late.
    pub fn knows_ended(&self, id: DecisionId) -> bool {
        self.ended_ids.contains(&id)
    }

    /// The decisions on exactly this scope.
    pub fn on(&self, scope: &Scope) -> impl Iterator<Item = &Arc<Decision>> {
        self.by_scope.get(scope).into_iter().flatten().filter_map(|id| self.held.get(id))
    }

    /// The decisions on networks that contain an address, the widest first.
    pub fn covering(&self, addr: IpAddr) -> Vec<Arc<Decision>> {
        let addr = addr.to_canonical();
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        (0..=longest)
            .flat_map(|prefix| {
                self.on(&Scope::Network(IpNetwork::containing(addr, prefix))).cloned().collect::<Vec<_>>()
            })
            .collect()
    }

    /// How long the kernel must drop a network: the latest end, `Some(None)` for ever, none: not at all.
    pub fn in_kernel(&self, scope: &Scope) -> Option<Option<u64>> {
        let until = self.on(scope).filter(|d| d.action == Action::KernelBan).map(|d| d.end_or_max()).max()?;
        Some((until != u64::MAX).then_some(until))
    }

    /// What layer 7 does to a scope: the strongest decision, of those the one that ends last.
    pub fn at_layer_7(&self, scope: &Scope) -> Option<&Arc<Decision>> {
        self.on(scope).filter(|d| d.action > Action::Observe).max_by_key(|d| (d.action, d.end_or_max()))
    }

    /// Bans remembered against a scope.
    pub fn earlier_bans(&self, scope: &Scope, now_ms: u64) -> u32 {
        self.past.count(scope, now_ms)
    }
}
