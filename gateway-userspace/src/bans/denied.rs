//! Who layer 7 refuses: written by the bans task, read by every request without a lock.
//!
//! Scopes are spread over [`SHARDS`] short lists, each behind a pointer that readers load. A change
//! copies the list it touches and no others: with 100,000 scopes that is one or two entries, with
//! two million about thirty. So a batch costs what it changes, not what the view holds. The hash is
//! keyed: nobody can aim at one list.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::{Decision, Scope};
use crate::client::IpNetwork;

/// Lists that scopes are spread over: 512 KiB of pointers.
pub const SHARDS: usize = 65_536;

type Shard = Vec<(Scope, Arc<Decision>)>;

/// The prefix lengths in use: each costs a request one look-up.
#[derive(Debug, Default, Clone)]
struct Lengths {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

/// The view of layer 7.
#[derive(Debug)]
pub struct Denied {
    shards: Box<[ArcSwap<Shard>]>,
    lengths: ArcSwap<Lengths>,
    asks_asn: AtomicBool,
    asks_country: AtomicBool,
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
    /// Its country.
    pub country: Option<[u8; 2]>,
}

/// What decisions ask for beside the address: looking it up costs something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// The autonomous system.
    pub asn: bool,
    /// The country.
    pub country: bool,
}

impl Denied {
    /// A view that refuses nobody.
    pub fn new(keys: RandomState) -> Self {
        let empty = Arc::new(Shard::new());
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::new(empty.clone())).collect(),
            lengths: ArcSwap::from_pointee(Lengths::default()),
            asks_asn: AtomicBool::new(false),
            asks_country: AtomicBool::new(false),
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

    /// What is to be known of a client beside its address. Says yes until nobody at all is refused.
    pub fn asks(&self) -> Asks {
        Asks {
            asn: self.asks_asn.load(Ordering::Relaxed),
            country: self.asks_country.load(Ordering::Relaxed),
        }
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
        let others = traits.ja4.cloned().map(Scope::Ja4).into_iter();
        let others = others.chain(traits.asn.map(Scope::Asn)).chain(traits.country.map(Scope::Country));
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
        let mut changes: Vec<(usize, Scope, Option<Arc<Decision>>)> =
            changes.into_iter().map(|(scope, decision)| (self.shard_of(&scope), scope, decision)).collect();
        changes.sort_by_key(|(at, _, _)| *at);
        self.know(changes.iter().filter(|(_, _, decision)| decision.is_some()).map(|(_, scope, _)| scope));
        let mut removed = false;
        let mut changes = changes.into_iter().peekable();
        while let Some(at) = changes.peek().map(|(at, _, _)| *at) {
            let mut shard = Shard::clone(&self.shards[at].load());
            let before = shard.len();
            while let Some((_, scope, decision)) = changes.next_if(|(of, _, _)| *of == at) {
                let place = shard.iter().position(|(other, _)| *other == scope);
                match (decision, place) {
                    (Some(decision), Some(place)) => shard[place].1 = decision,
                    (Some(decision), None) => shard.push((scope, decision)),
                    (None, Some(place)) => {
                        shard.swap_remove(place);
                        removed = true;
                    }
                    (None, None) => {}
                }
            }
            let after = shard.len();
            self.shards[at].store(Arc::new(shard));
            // Readers ask whether there is anything at all: an addition must show before a removal does.
            self.len.fetch_add(after, Ordering::Relaxed);
            self.len.fetch_sub(before, Ordering::Relaxed);
        }
        if removed && self.is_empty() {
            self.lengths.store(Arc::new(Lengths::default()));
            self.asks_asn.store(false, Ordering::Relaxed);
            self.asks_country.store(false, Ordering::Relaxed);
        }
    }

    /// What the entries that are about to come ask for: prefix lengths and places. Dropped when the view is empty.
    fn know<'a>(&self, added: impl Iterator<Item = &'a Scope>) {
        let mut lengths = Lengths::clone(&self.lengths.load());
        let mut is_new = false;
        for scope in added {
            match scope {
                Scope::Network(network) => {
                    let known = if network.addr().is_ipv4() { &mut lengths.v4 } else { &mut lengths.v6 };
                    if !known.contains(&network.prefix()) {
                        known.push(network.prefix());
                        is_new = true;
                    }
                }
                Scope::Asn(_) => self.asks_asn.store(true, Ordering::Relaxed),
                Scope::Country(_) => self.asks_country.store(true, Ordering::Relaxed),
                Scope::Ja4(_) => {}
            }
        }
        if is_new {
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
            decision("country:FR", Action::Challenge, None),
        ];
        assert_eq!(denied.asks(), Asks::default());
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
        check("192.0.3.1", Traits { ja4: Some(&ja4), ..plain }, 0, Some("ja4:t13d"));
        check("192.0.3.1", Traits { ja4: Some(&ja4), asn: Some(64500), ..plain }, 0, Some("asn:64500"));
        check("192.0.3.1", Traits { country: Some(*b"FR"), ..plain }, 0, Some("country:FR"));
        check("192.0.3.1", Traits { country: Some(*b"DE"), ..plain }, 0, None);
        assert_eq!((denied.len(), denied.asks()), (6, Asks { asn: true, country: true }));
        denied.update(all.iter().map(|d| (d.scope.clone(), None)));
        assert!(denied.is_empty() && denied.asks() == Asks::default());
        check("192.0.2.8", plain, 0, None);
    }
}
