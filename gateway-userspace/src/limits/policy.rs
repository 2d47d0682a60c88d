//! The configured limits, made ready to decide with.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::clearance::Clearances;
use super::key::{Hashing, KeySpec, Secret, stable_id};
use super::metrics::LimitMetrics;
use super::request::{LimitRequest, Outcome};
use super::window::Rule;
use crate::client::IpNetwork;
use crate::config::limits as config;
use crate::config::limits::{Fallback, KeyPart, LimitMode, Measure, StoreKind};

/// All limits, and which of them a route has.
pub struct Policy {
    pub(super) limits: Vec<Limit>,
    pub(super) specs: Vec<Spec>,
    routes: HashMap<String, Chosen>,
    /// For routes that no limit names.
    rest: Chosen,
    /// Whether a limit asks where addresses are.
    pub(super) places: Places,
    /// Where limits challenge, if one does.
    pub(super) clearances: Option<Clearances>,
}

/// What limits ask of the places of addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// The country.
    pub country: bool,
    /// The autonomous system.
    pub asn: bool,
}

/// The limits of a route, by their indices.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) limits: Vec<u16>,
    /// Whether all of them are [`Limit::plain`].
    pub(super) plain: bool,
}

/// A way to tell clients apart, shared by the limits that have it in common.
pub(super) struct Spec {
    pub(super) key: KeySpec,
    pub(super) hashing: Hashing,
}

/// A limit, ready to decide with.
pub struct Limit {
    /// Its name.
    pub name: Arc<str>,
    /// Its place in the policy.
    pub(super) index: u16,
    pub(super) config: config::Limit,
    pub(super) kind: Kind,
    /// The index of its specification in the policy.
    pub(super) spec: u16,
    /// What makes a client's key this limit's.
    pub(super) salt: u128,
    /// The same on every node, other when what is counted is other.
    pub(super) id: u32,
    exempt: Exempt,
    /// Whether it is a rate in memory that looks at all requests of its routes, each at the same cost: what is decided the
    /// shortest way.
    pub(super) plain: bool,
    /// Whether each key is one client's address and nobody else's.
    pub(super) own: bool,
    /// Its item in `RateLimit-Policy`.
    pub(super) policy_item: String,
    pub(super) metrics: Arc<LimitMetrics>,
}

pub(super) enum Kind {
    Rate(RateLimit),
    Concurrency(u32),
}

pub(super) struct RateLimit {
    pub(super) rule: Rule,
    pub(super) store: StoreKind,
    pub(super) fallback: Fallback,
    /// What a request costs is known for good only when its answer is.
    pub(super) settles: bool,
    /// What a used unit adds to a key's heat: 254 at the capacity.
    pub(super) heat: f32,
}

impl Policy {
    /// Compiles limits. `old` lends its metrics to limits of the same name, so that they go on counting.
    pub fn new(all: &config::Limits, secret: Secret, old: Option<&Self>) -> Self {
        let limits = &all.limits;
        let mut specs: Vec<Spec> = Vec::new();
        let mut compiled: Vec<Limit> = Vec::new();
        for limit in limits.iter().filter(|limit| limit.mode != LimitMode::Off) {
            let key = KeySpec::of(limit);
            let spec = specs.iter().position(|s| s.key == key).unwrap_or_else(|| {
                let hashing = secret.hashing(&key);
                specs.push(Spec { key, hashing });
                specs.len() - 1
            });
            let metrics = old
                .and_then(|old| old.find(&limit.name))
                .map_or_else(Arc::default, |known| Arc::clone(&known.metrics));
            let index = compiled.len() as u16;
            compiled.push(Limit::new(limit, index, spec, &specs[spec].key, secret, metrics));
        }
        let mut policy = Self {
            limits: compiled,
            specs,
            routes: HashMap::new(),
            rest: Chosen::default(),
            places: Places::default(),
            clearances: None,
        };
        if limits.iter().any(|limit| limit.action == config::Action::Challenge) {
            let read = all.challenge.as_ref().map(Clearances::read).transpose();
            // Who starts or reloads the gateway has read it before: it has gone since then.
            policy.clearances = read.unwrap_or_else(|error| {
                tracing::error!(%error, "limits: nobody is challenged; limits that would are refused with 429");
                None
            });
        }
        let asks = |part: KeyPart| policy.specs.iter().any(|spec| spec.key.has(&part));
        policy.places = Places { country: asks(KeyPart::Country), asn: asks(KeyPart::Asn) };
        let names: HashSet<&String> = limits.iter().flat_map(|limit| &limit.scope.routes).collect();
        policy.routes = names.into_iter().map(|name| (name.clone(), policy.select(Some(name)))).collect();
        policy.rest = policy.select(None);
        policy
    }

    /// The limits that may apply on a route.
    #[inline]
    pub(super) fn on_route(&self, route: &str) -> &Chosen {
        let found = if self.routes.is_empty() { None } else { self.routes.get(route) };
        found.unwrap_or(&self.rest)
    }

    /// The limits at these indices.
    #[inline]
    pub(super) fn at(&self, indices: &[u16]) -> impl Iterator<Item = &Limit> {
        indices.iter().filter_map(|index| self.limits.get(usize::from(*index)))
    }

    /// The limit of a name.
    pub fn find(&self, name: &str) -> Option<&Limit> {
        self.limits.iter().find(|limit| *limit.name == *name)
    }

    /// The indices of a route's limits: those that are asked for in Redis first, so that a request that has to
    /// wait has taken nothing yet.
    fn select(&self, route: Option<&String>) -> Chosen {
        let fits = |limit: &Limit| {
            let routes = &limit.config.scope.routes;
            routes.is_empty() || route.is_some_and(|name| routes.contains(name))
        };
        let mut chosen: Vec<u16> =
            (0..).zip(&self.limits).filter(|(_, limit)| fits(limit)).map(|(index, _)| index).collect();
        chosen.sort_by_key(|index| {
            let limit = &self.limits[usize::from(*index)];
            (!limit.is_shared(), limit.spec, *index)
        });
        let plain = self.at(&chosen).all(|limit| limit.plain);
        Chosen { limits: chosen, plain }
    }
}

impl Limit {
    fn new(
        limit: &config::Limit,
        index: u16,
        spec: usize,
        key: &KeySpec,
        secret: Secret,
        metrics: Arc<LimitMetrics>,
    ) -> Self {
        let kind = match &limit.measure {
            Measure::Concurrency(most) => Kind::Concurrency(*most),
            Measure::Rate(rate) => Kind::Rate(RateLimit {
                rule: Rule::from(rate),
                heat: 254.0 / Rule::from(rate).capacity().max(1) as f32,
                store: rate.store,
                fallback: rate.fallback,
                settles: !rate.count_status.is_empty()
                    || !rate.cost.by_status.is_empty()
                    || rate.cost.header.is_some(),
            }),
        };
        // What a counter means: a limit that means the same after a reload goes on with its counters.
        let identity = match &kind {
            Kind::Concurrency(_) => format!("{} {} concurrency", limit.name, key.text()),
            Kind::Rate(rate) => {
                let rule = &rate.rule;
                let (quota, burst, window) = (rule.quota(), rule.capacity(), rule.window());
                format!("{} {} {:?} {quota} {burst} {window}", limit.name, key.text(), rule.algorithm())
            }
        };
        let policy_item = match &kind {
            Kind::Concurrency(most) => format!("\"{}\";q={most};qu=\"concurrent-requests\"", limit.name),
            Kind::Rate(rate) => {
                let seconds = rate.rule.window().div_ceil(1_000_000_000);
                format!("\"{}\";q={};w={seconds}", limit.name, rate.rule.quota())
            }
        };
        let exempt = Exempt::new(&limit.exempt);
        let looks_at_all =
            limit.scope.methods.is_empty() && limit.scope.hosts.is_empty() && exempt.is_empty();
        let plain = match (&kind, &limit.measure) {
            (Kind::Rate(rate), Measure::Rate(config)) => {
                rate.store == StoreKind::Local
                    && !rate.settles
                    && config.cost.base > 0
                    && config.cost.by_method.is_empty()
                    && limit.action != config::Action::Challenge
                    && looks_at_all
            }
            _ => false,
        };
        Self {
            name: limit.name.as_str().into(),
            plain,
            index,
            config: limit.clone(),
            kind,
            spec: spec as u16,
            salt: secret.hash(&identity),
            id: stable_id(&identity),
            exempt,
            own: limit.key.contains(&KeyPart::Address) && limit.ipv4_prefix == 32 && limit.ipv6_prefix >= 64,
            policy_item,
            metrics,
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        matches!(&self.kind, Kind::Rate(rate) if rate.store == StoreKind::Redis)
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.config.mode == LimitMode::Shadow
    }

    /// What a request pays up front that no other cost is named for.
    #[inline]
    pub(super) fn base_cost(&self) -> u32 {
        if let Measure::Rate(rate) = &self.config.measure { rate.cost.base } else { 1 }
    }

    /// What the request pays up front.
    pub(super) fn cost(&self, request: &LimitRequest<'_>) -> u32 {
        let Measure::Rate(rate) = &self.config.measure else { return 1 };
        let by_method = rate.cost.by_method.iter().find(|(method, _)| method == request.method.as_str());
        by_method.map_or(rate.cost.base, |(_, cost)| *cost)
    }

    /// What it costs in the end, having paid `paid`.
    pub(super) fn final_cost(&self, outcome: &Outcome<'_>, paid: u32) -> u32 {
        let Measure::Rate(rate) = &self.config.measure else { return paid };
        let counts = &rate.count_status;
        if !counts.is_empty() && !counts.iter().any(|range| range.contains(outcome.status)) {
            return 0;
        }
        let told = rate.cost.header.as_ref().and_then(|name| {
            let text = outcome.headers.get(name)?.to_str().ok()?;
            text.trim().parse::<u32>().ok()
        });
        let by_status =
            || rate.cost.by_status.iter().find(|(r, _)| r.contains(outcome.status)).map(|(_, c)| *c);
        told.or_else(by_status).unwrap_or(paid).min(rate.quota.max(rate.burst))
    }

    /// Whether the limit looks at this request; its route is known to fit.
    pub(super) fn applies(&self, request: &LimitRequest<'_>, key: &KeySpec) -> bool {
        let scope = &self.config.scope;
        (scope.methods.is_empty() || scope.methods.iter().any(|m| m == request.method.as_str()))
            && (scope.hosts.is_empty() || scope.hosts.iter().any(|h| h.matches(request.host)))
            && !self.exempt.covers(request, key)
    }
}

/// Who is exempt, for lookups that do not grow with the list.
struct Exempt {
    /// Networks by their prefix length; there are few different ones.
    networks: Vec<(u8, HashSet<IpAddr>)>,
    values: HashSet<Vec<u8>>,
}

impl Exempt {
    fn new(exempt: &config::Exempt) -> Self {
        let mut networks: Vec<(u8, HashSet<IpAddr>)> = Vec::new();
        for network in &exempt.networks {
            match networks.iter_mut().find(|(prefix, _)| *prefix == network.prefix()) {
                Some((_, addrs)) => _ = addrs.insert(network.addr()),
                None => networks.push((network.prefix(), HashSet::from([network.addr()]))),
            }
        }
        let values = exempt.values.iter().map(|v| v.clone().into_bytes()).collect();
        Self { networks, values }
    }

    fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.values.is_empty()
    }

    fn covers(&self, request: &LimitRequest<'_>, key: &KeySpec) -> bool {
        let addr = request.client.addr();
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        let near = |(prefix, addrs): &(u8, HashSet<IpAddr>)| {
            *prefix <= longest && addrs.contains(&IpNetwork::containing(addr, *prefix).addr())
        };
        self.networks.iter().any(near)
            || (!self.values.is_empty() && key.exempt_value(request).is_some_and(|v| self.values.contains(v)))
    }
}
