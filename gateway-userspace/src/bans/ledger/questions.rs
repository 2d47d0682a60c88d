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

    /// What is done to a scope. In the kernel: until the latest end (`u64::MAX`: for ever), and by whom. At layer 7: the
    /// strongest decision, of those the one that ends last.
    pub fn effect_on(&self, scope: &Scope) -> (Option<(u64, &Origin)>, Option<&Arc<Decision>>) {
        let (mut kernel, mut layer_7): (Option<&Arc<Decision>>, Option<&Arc<Decision>>) = (None, None);
        for decision in self.on(scope).filter(|d| d.action > Action::Observe) {
            let end = decision.end_or_max();
            if decision.action == Action::KernelBan && kernel.is_none_or(|k| end > k.end_or_max()) {
                kernel = Some(decision);
            }
            if layer_7.is_none_or(|l| (decision.action, end) >= (l.action, l.end_or_max())) {
                layer_7 = Some(decision);
            }
        }
        (kernel.map(|k| (k.end_or_max(), &k.origin)), layer_7)
    }

    /// Bans remembered against a scope.
    pub fn earlier_bans(&self, scope: &Scope, now_ms: u64) -> u32 {
        self.past.count(scope, now_ms)
    }
}
