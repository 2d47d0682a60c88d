//! The memory of past bans: what makes the next one longer.

use std::time::Duration;

use crate::bans::Scope;
use crate::bans::slots::{Rank, Slots};

#[derive(Debug)]
struct Entry {
    bans: u32,
    last_ms: u64,
}

impl Rank for Entry {
    fn rank(&self) -> u64 {
        self.last_ms
    }
}

/// Bans by scope, bounded; of a few looked at, the one longest ago leaves.
#[derive(Debug)]
pub(super) struct Past {
    entries: Slots<Scope, Entry>,
    memory_ms: u64,
}

impl Past {
    pub(super) fn new(bound: usize, memory: Duration) -> Self {
        Self { entries: Slots::new(bound), memory_ms: memory.as_millis() as u64 }
    }

    pub(super) fn remember_for(&mut self, memory: Duration) {
        self.memory_ms = memory.as_millis() as u64;
    }

    pub(super) fn began(&mut self, scope: &Scope, at_ms: u64) {
        let memory_ms = self.memory_ms;
        let entry = self.entries.entry(scope, || Entry { bans: 0, last_ms: at_ms });
        if at_ms.saturating_sub(entry.last_ms) > memory_ms {
            entry.bans = 0;
        }
        entry.bans = entry.bans.saturating_add(1);
        entry.last_ms = entry.last_ms.max(at_ms);
    }

    /// A ban ended. One that was taken back was a mistake and does not count, nor does one that
    /// another took the place of.
    pub(super) fn ended(&mut self, scope: &Scope, at_ms: u64, uncounted: bool) {
        let entry = self.entries.entry(scope, || Entry { bans: 1, last_ms: at_ms });
        entry.last_ms = entry.last_ms.max(at_ms);
        entry.bans = entry.bans.saturating_sub(u32::from(uncounted));
        if entry.bans == 0 {
            self.entries.remove(scope);
        }
    }

    /// Bans within the memory; one older than it forgives all before.
    pub(super) fn count(&self, scope: &Scope, now_ms: u64) -> u32 {
        self.entries
            .get(scope)
            .map_or(0, |e| if now_ms.saturating_sub(e.last_ms) <= self.memory_ms { e.bans } else { 0 })
    }

    pub(super) fn erase(&mut self, which: impl Fn(&Scope) -> bool) {
        self.entries.retain(|scope, _| !which(scope));
    }
}
