//! How many requests of a key are under way.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::metrics::Counter;
use super::table::Key;

/// Locks.
const SHARDS: usize = 64;
/// Most keys with requests under way in one shard. Further ones are not counted, and let through: so many requests
/// at once are more than a server's connections, and those have their own bound.
pub const MAX_KEYS_PER_SHARD: usize = 1 << 16;

/// Requests under way by key. A key without any takes no memory.
pub(super) struct Running {
    shards: Vec<Mutex<HashMap<Key, u32>>>,
    /// Requests let through uncounted.
    pub(super) uncounted: Counter,
}

impl Running {
    pub(super) fn new() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, uncounted: Counter::default() }
    }

    /// Counts one more if there are fewer than `most`; gives how many there may be besides.
    pub(super) fn enter(&self, key: Key, most: u32) -> Entered {
        let mut shard = self.shard(key).lock();
        if let Some(now) = shard.get_mut(&key) {
            if *now >= most {
                return Entered::Full;
            }
            *now += 1;
            return Entered::Counted { left: most - *now };
        }
        if shard.len() >= MAX_KEYS_PER_SHARD {
            self.uncounted.add();
            return Entered::Uncounted;
        }
        shard.insert(key, 1);
        Entered::Counted { left: most.saturating_sub(1) }
    }

    /// One less.
    pub(super) fn leave(&self, key: Key) {
        let mut shard = self.shard(key).lock();
        if let Some(now) = shard.get_mut(&key) {
            *now -= 1;
            if *now == 0 {
                shard.remove(&key);
            }
        }
    }

    /// How many are under way now.
    pub(super) fn now(&self, key: Key) -> u32 {
        self.shard(key).lock().get(&key).copied().unwrap_or(0)
    }

    fn shard(&self, key: Key) -> &Mutex<HashMap<Key, u32>> {
        &self.shards[key.fold() as usize % SHARDS]
    }
}

/// What came of entering.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    Counted { left: u32 },
    Uncounted,
    Full,
}
