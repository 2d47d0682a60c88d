//! Who layer 7 refuses: written by the bans task, read by every request without a lock.
//!
//! Scopes are spread over [`SHARDS`] short lists, each behind a pointer that readers load. A change
//! copies the list it touches and no others: with 100,000 scopes that is one or two entries, with
//! two million about thirty. So a batch costs what it changes, not what the view holds. The hash is
//! keyed: nobody can aim at one list.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::{Decision, Scope};
use crate::client::IpNetwork;

/// Lists that scopes are spread over: 512 KiB of pointers.
pub const SHARDS: usize = 65_536;

type Shard = Vec<(Scope, Arc<Decision>)>;

/// The prefix lengths in use: each costs a request one look-up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Lengths {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

/// The view of layer 7.
#[derive(Debug)]
pub struct Denied {
    shards: Box<[ArcSwap<Shard>]>,
    lengths: ArcSwap<Lengths>,
    keys: RandomState,
    len: AtomicUsize,
}

/// What is known of a client beside its address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits<'a> {
    /// Its TLS fingerprint.
    pub ja4: Option<&'a Arc<str>>,
    /// Its autonomous system.
    pub asn: Option<u32>,
}

impl Denied {
    /// A view that refuses nobody.
    pub fn new(keys: RandomState) -> Self {
        let empty = Arc::new(Shard::new());
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::new(empty.clone())).collect(),
            lengths: ArcSwap::from_pointee(Lengths::default()),
            keys,
            len: AtomicUsize::new(0),
        }
    }

    /// Scopes that are refused.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether nobody is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The decision that refuses a client, the strongest where there are several.
    pub fn find(&self, addr: IpAddr, traits: Traits<'_>, now_ms: u64) -> Option<Arc<Decision>> {
        if self.is_empty() {
            return None;
        }
        let addr = addr.to_canonical();
        let lengths = self.lengths.load();
        let of_family = if addr.is_ipv4() { &lengths.v4 } else { &lengths.v6 };
        let networks = of_family.iter().map(|length| Scope::Network(IpNetwork::containing(addr, *length)));
        let others = traits.ja4.cloned().map(Scope::Ja4).into_iter().chain(traits.asn.map(Scope::Asn));
        networks
            .chain(others)
            .filter_map(|scope| self.on(&scope))
            .filter(|decision| decision.holds(now_ms))
            .max_by_key(|decision| (decision.action, decision.end_or_max()))
    }

    fn shard_of(&self, scope: &Scope) -> usize {
        let mut hasher = self.keys.build_hasher();
        scope.hash(&mut hasher);
        std::hash::Hasher::finish(&hasher) as usize % SHARDS
    }

    fn on(&self, scope: &Scope) -> Option<Arc<Decision>> {
        let shard = self.shards.get(self.shard_of(scope))?.load();
        shard.iter().find(|(other, _)| other == scope).map(|(_, decision)| decision.clone())
    }

    /// Puts changes in place: each scope with the decision on it, or none. Called by one task alone.
    pub fn update(&self, changes: impl IntoIterator<Item = (Scope, Option<Arc<Decision>>)>) {
        let mut touched: HashMap<usize, Shard> = HashMap::new();
        let mut added = Lengths::default();
        let mut removed = false;
        for (scope, decision) in changes {
            let at = self.shard_of(&scope);
            let shard = touched.entry(at).or_insert_with(|| Shard::clone(&self.shards[at].load()));
            let place = shard.iter().position(|(other, _)| *other == scope);
            match decision {
                Some(decision) => {
                    if let Some(network) = scope.network() {
                        let of_family = if network.addr().is_ipv4() { &mut added.v4 } else { &mut added.v6 };
                        if !of_family.contains(&network.prefix()) {
                            of_family.push(network.prefix());
                        }
                    }
                    match place {
                        Some(place) => shard[place].1 = decision,
                        None => shard.push((scope, decision)),
                    }
                }
                None => {
                    if let Some(place) = place {
                        shard.swap_remove(place);
                        removed = true;
                    }
                }
            }
        }
        self.know_lengths(added);
        for (at, shard) in touched {
            let before = self.shards[at].load().len();
            let after = shard.len();
            self.shards[at].store(Arc::new(shard));
            // Readers ask whether there is anything at all: an addition must show before a removal does.
            self.len.fetch_add(after, Ordering::Relaxed);
            self.len.fetch_sub(before, Ordering::Relaxed);
        }
        if removed && self.is_empty() {
            self.lengths.store(Arc::new(Lengths::default()));
        }
    }

    /// Lengths are added before the entries that need them, and dropped when the view is empty.
    fn know_lengths(&self, added: Lengths) {
        let mut lengths = Lengths::clone(&self.lengths.load());
        let before = lengths.clone();
        for (known, new) in [(&mut lengths.v4, added.v4), (&mut lengths.v6, added.v6)] {
            for length in new {
                if !known.contains(&length) {
                    known.push(length);
                }
            }
        }
        if lengths != before {
            self.lengths.store(Arc::new(lengths));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bans::{Action, Cause, DecisionId, Origin};

    fn decision(scope: &str, action: Action, end_ms: Option<u64>) -> Arc<Decision> {
        Arc::new(Decision {
            id: DecisionId::new(1, 1, 1),
            scope: scope.parse().expect("scope"),
            action,
            origin: Origin::Local,
            reason: scope.into(),
            scenario: None,
            start_ms: 0,
            end_ms,
            cause: Cause::default(),
        })
    }

    #[test]
    fn finds_the_strongest_that_holds() {
        let denied = Denied::new(RandomState::new());
        let all = [
            decision("192.0.2.0/24", Action::Challenge, None),
            decision("192.0.2.7", Action::L7Deny, Some(100)),
            decision("2001:db8::/48", Action::KernelBan, None),
            decision("ja4:t13d", Action::Challenge, None),
            decision("asn:64500", Action::L7Deny, None),
        ];
        denied.update(all.iter().map(|d| (d.scope.clone(), Some(d.clone()))));
        let ja4: Arc<str> = "t13d".into();
        let check = |addr: &str, traits: Traits<'_>, now_ms, expected: Option<&str>| {
            let found = denied.find(addr.parse().expect("address"), traits, now_ms);
            assert_eq!(found.as_ref().map(|d| &*d.reason), expected, "{addr} at {now_ms}");
        };
        let plain = Traits::default();
        check("192.0.2.7", plain, 99, Some("192.0.2.7"));
        check("::ffff:192.0.2.7", plain, 99, Some("192.0.2.7"));
        check("192.0.2.7", plain, 100, Some("192.0.2.0/24"));
        check("192.0.2.8", plain, 0, Some("192.0.2.0/24"));
        check("192.0.3.1", plain, 0, None);
        check("2001:db8:0:1::1", plain, 0, Some("2001:db8::/48"));
        check("192.0.3.1", Traits { ja4: Some(&ja4), asn: None }, 0, Some("ja4:t13d"));
        check("192.0.3.1", Traits { ja4: Some(&ja4), asn: Some(64500) }, 0, Some("asn:64500"));
        assert_eq!(denied.len(), 5);
        denied.update(all.iter().map(|d| (d.scope.clone(), None)));
        assert!(denied.is_empty());
        check("192.0.2.8", plain, 0, None);
    }
}
