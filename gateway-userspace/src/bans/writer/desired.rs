//! What the kernel should hold, what it was told, and what is to be written. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{BanChange, BanReason, KernelBan, MAX_BATCH, MAX_KERNEL_TTL_MS, Wish};
use crate::client::IpNetwork;

/// The kernel's clock is coarser than ours: ends that differ by less are the same, in milliseconds.
pub const SAME_END_MS: u64 = 2_000;

#[derive(Clone, Copy, Debug)]
struct Wanted {
    until_ms: u64,
    reason: BanReason,
    /// What the kernel was told, in Unix milliseconds; 0: nothing yet.
    told_ms: u64,
}

/// The bans that the kernel should hold.
#[derive(Debug, Default)]
pub struct Desired {
    wanted: HashMap<IpNetwork, Wanted>,
    /// Networks whose state in the kernel is to be changed.
    pub(super) open: HashSet<IpNetwork>,
    /// When bans that outlast the kernel's own expiry are to be told again.
    again: BTreeSet<(u64, IpNetwork)>,
}

impl Desired {
    /// Bans wanted.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether something is to be written.
    pub fn has_work(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes wishes in that the kernel may know from before; [`Desired::compare`] tells.
    pub fn assume(&mut self, wishes: impl IntoIterator<Item = (IpNetwork, Wish)>) {
        self.accept(wishes);
        self.open.clear();
    }

    /// Takes wishes in.
    pub fn accept(&mut self, wishes: impl IntoIterator<Item = (IpNetwork, Wish)>) {
        for (network, wish) in wishes {
            match wish {
                Some((until_ms, reason)) => {
                    let wanted =
                        self.wanted.entry(network).or_insert(Wanted { until_ms, reason, told_ms: 0 });
                    (wanted.until_ms, wanted.reason) = (until_ms, reason);
                }
                None => {
                    self.wanted.remove(&network);
                }
            }
            self.open.insert(network);
        }
    }

    /// Opens the bans that the kernel would let lapse before their end.
    pub fn reassert(&mut self, now_ms: u64) {
        while let Some((at, network)) = self.again.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.again.remove(&(at, network));
            if self.wanted.get(&network).is_some_and(|w| w.until_ms > w.told_ms) {
                self.open.insert(network);
            }
        }
    }

    /// Opens what the kernel holds otherwise than wanted; how many networks differ.
    pub fn compare(&mut self, held: &[KernelBan], now_ms: u64) -> u64 {
        let open_before: HashSet<IpNetwork> = self.open.clone();
        let held: HashMap<IpNetwork, u64> = held.iter().map(|b| (b.network, b.until_unix_ms)).collect();
        for (network, wanted) in &mut self.wanted {
            let target = wanted.until_ms.min(now_ms + MAX_KERNEL_TTL_MS);
            match held.get(network) {
                // For ever is a target that moves; what will be told again in time is right.
                Some(until) if until.abs_diff(target) <= SAME_END_MS => wanted.told_ms = *until,
                Some(until) if *until < wanted.until_ms && until.abs_diff(wanted.told_ms) <= SAME_END_MS => {}
                _ => {
                    if wanted.until_ms > now_ms + SAME_END_MS {
                        self.open.insert(*network);
                    }
                }
            }
        }
        self.open.extend(held.keys().filter(|network| !self.wanted.contains_key(network)));
        self.open.difference(&open_before).count() as u64
    }

    /// The next changes to be made.
    pub fn next_batch(&self, now_ms: u64) -> Option<Vec<BanChange>> {
        if self.open.is_empty() {
            return None;
        }
        let change = |network: &IpNetwork| match self.wanted.get(network) {
            Some(wanted) => BanChange::Add {
                network: *network,
                until_unix_ms: wanted.until_ms.min(now_ms + MAX_KERNEL_TTL_MS),
                reason: wanted.reason,
            },
            None => BanChange::Remove { network: *network },
        };
        Some(self.open.iter().take(MAX_BATCH).map(change).collect())
    }

    /// The changes were made.
    pub fn written(&mut self, batch: &[BanChange]) {
        for change in batch {
            match change {
                BanChange::Add { network, until_unix_ms, .. } => {
                    self.open.remove(network);
                    if let Some(wanted) = self.wanted.get_mut(network) {
                        wanted.told_ms = *until_unix_ms;
                        if wanted.until_ms > *until_unix_ms {
                            self.again.insert((until_unix_ms - MAX_KERNEL_TTL_MS / 2, *network));
                        }
                    }
                }
                BanChange::Remove { network } => {
                    self.open.remove(network);
                }
            }
        }
    }
}
