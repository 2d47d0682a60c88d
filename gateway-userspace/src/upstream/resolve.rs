//! Names of servers, looked up again and again: a server that moves is followed without a restart.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Most addresses of one name; further ones are not asked.
pub const MAX_ADDRESSES: usize = 16;
/// A lookup that takes longer has failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The addresses of one server.
#[derive(Debug)]
pub(super) struct Resolved {
    /// `host:port`.
    name: Arc<str>,
    /// An address, not a name: there is nothing to look up.
    is_fixed: bool,
    known: Mutex<Arc<[SocketAddr]>>,
    is_looking: AtomicBool,
    /// Milliseconds after `epoch`.
    next: AtomicU64,
    epoch: Instant,
    pub(super) failures: AtomicU64,
    pub(super) changes: AtomicU64,
}

impl Resolved {
    pub(super) fn new(name: &Arc<str>) -> Self {
        let fixed: Option<SocketAddr> = name.parse().ok();
        Self {
            name: Arc::clone(name),
            is_fixed: fixed.is_some(),
            known: Mutex::new(fixed.into_iter().collect()),
            is_looking: AtomicBool::new(false),
            next: AtomicU64::new(0),
            epoch: Instant::now(),
            failures: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// What is known; a first lookup where nothing is.
    pub(super) async fn addresses(&self, interval: Duration) -> Arc<[SocketAddr]> {
        let known = self.known();
        if !known.is_empty() {
            return known;
        }
        self.look(interval).await;
        self.known()
    }

    /// Whether an address is (still) one of the server's.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.known().contains(&address)
    }

    /// Whether a lookup is due: of a name, one at a time, `interval` after the last.
    pub(super) fn is_due(&self) -> bool {
        !self.is_fixed
            && !self.is_looking.load(Ordering::Relaxed)
            && !self.known().is_empty()
            && self.millis() >= self.next.load(Ordering::Relaxed)
    }

    /// Looks the name up. Where that fails what was known stays.
    pub(super) async fn look(&self, interval: Duration) {
        self.is_looking.store(true, Ordering::Relaxed);
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(&*self.name)).await;
        let found = match found {
            Ok(Ok(found)) => found.take(MAX_ADDRESSES).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        self.take(found);
        self.next.store(self.millis() + interval.as_millis() as u64, Ordering::Relaxed);
        self.is_looking.store(false, Ordering::Relaxed);
    }

    fn take(&self, mut found: Vec<SocketAddr>) {
        if found.is_empty() {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(server = %self.name, "the name can't be resolved: the addresses known before stay");
            return;
        }
        // Resolvers turn the order round: that is no change.
        found.sort_unstable();
        found.dedup();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            *known = found.into();
        } else if **known != *found {
            tracing::info!(server = %self.name, addresses = ?found, "the server's addresses changed");
            self.changes.fetch_add(1, Ordering::Relaxed);
            *known = found.into();
        }
    }

    fn known(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn millis(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[u8]) -> Vec<SocketAddr> {
        list.iter().map(|n| SocketAddr::from(([192, 0, 2, *n], 80))).collect()
    }

    #[test]
    fn what_is_found_replaces_and_what_is_not_changes_nothing() {
        let resolved = Resolved::new(&"a.test:80".into());
        for (found, known, changes, failures) in [
            (&[][..], &[][..], 0, 1),
            (&[2, 1], &[1, 2], 0, 1),
            (&[1, 2], &[1, 2], 0, 1),
            (&[], &[1, 2], 0, 2),
            (&[3], &[3], 1, 2),
            (&[3, 3], &[3], 1, 2),
        ] {
            resolved.take(addresses(found));
            assert_eq!(*resolved.known(), *addresses(known), "{found:?}");
            assert_eq!(resolved.changes.load(Ordering::Relaxed), changes, "{found:?}");
            assert_eq!(resolved.failures.load(Ordering::Relaxed), failures, "{found:?}");
        }
        assert!(resolved.has(addresses(&[3])[0]) && !resolved.has(addresses(&[1])[0]));
    }

    #[tokio::test]
    async fn names_are_due_and_addresses_never() {
        let interval = Duration::from_secs(3600);
        for (name, due) in [("localhost:80", true), ("127.0.0.1:80", false), ("[::1]:80", false)] {
            let resolved = Resolved::new(&name.into());
            assert!(!resolved.is_due(), "{name}: nothing was asked yet");
            assert!(resolved.addresses(Duration::ZERO).await.iter().all(|a| a.ip().is_loopback()), "{name}");
            assert_eq!(resolved.is_due(), due, "{name}");
            if due {
                resolved.look(interval).await;
                assert!(!resolved.is_due(), "{name}: just looked up");
            }
        }
        let unknown = Resolved::new(&"name.invalid:80".into());
        assert!(unknown.addresses(interval).await.is_empty());
        assert_eq!(unknown.failures.load(Ordering::Relaxed), 1);
    }
}
