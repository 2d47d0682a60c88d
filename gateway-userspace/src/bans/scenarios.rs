//! Leaky buckets: offences in, overflows out. Pure; `now` is an argument.
//!
//! A bucket is one number, the time at which it will be empty (as in GCRA): an offence moves it
//! by the time that one offence takes to leak, and the bucket runs over when it would need longer
//! than its capacity takes. Nothing has to be leaked on a timer, and no rounding adds up.

use std::sync::Arc;

use super::decision::{Cause, MAX_CAUSE_REQUESTS, MAX_CAUSE_RULES};
use super::slots::{Rank, Slots};
use super::traffic::{LONG_MS, Requests, SHORT_MS, client_network, decay};
use super::{Action, Offence, Scope};
use crate::client::{IpNetwork, Reach};
use crate::config::bans::{By, Scenario};

/// A bucket that holds longer than this is held against the long rate of requests, in milliseconds.
const SHORT_BUCKET_MS: u64 = 600_000;
/// An offence older than this counts as of then, in milliseconds: a late queue can't fill old buckets.
const MAX_LATE_MS: u64 = 60_000;

/// What is known of an offender when its offence is poured.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// What it asked for of late.
    pub requests: Requests,
    /// Its autonomous system, where the database knows.
    pub asn: Option<u32>,
    /// How much of each bucket it is given, in per cent; 0 counts as 100.
    pub patience: u32,
    /// Why, in a sentence.
    pub trust: Option<Arc<str>>,
    /// Whether somebody who is never banned lives in its network: then each of its hosts is judged alone.
    pub shares_network: bool,
}

/// A bucket that ran over.
#[derive(Clone, Debug, PartialEq)]
pub struct Overflow {
    /// Who is to be refused.
    pub scope: Scope,
    /// How: never the kernel for a client behind a proxy.
    pub action: Action,
    /// The scenario's name.
    pub scenario: Arc<str>,
    /// Length of the first ban, in milliseconds.
    pub length_ms: u64,
    /// What filled the bucket.
    pub cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    scenario: u16,
    behind: bool,
    scope: Scope,
}

#[derive(Debug)]
struct Bucket {
    empty_ms: u64,
    /// Offences, decayed as the requests are that they are held against.
    recent: f64,
    recent_ms: u64,
    cause: Cause,
}

impl Rank for Bucket {
    fn rank(&self) -> u64 {
        self.empty_ms
    }
}

/// The state of a bucket, for explanations.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Level {
    /// The scenario.
    pub scenario: Arc<str>,
    /// Whose bucket.
    pub scope: Scope,
    /// Offences in it now.
    pub level: u64,
    /// Offences that it holds.
    pub capacity: u32,
}

/// The scenarios with their buckets.
#[derive(Debug)]
pub struct Scenarios {
    list: Vec<Scenario>,
    buckets: Slots<Key, Bucket>,
}

impl Scenarios {
    /// Empty buckets, at most `max_buckets` of them.
    pub fn new(list: Vec<Scenario>, max_buckets: usize) -> Self {
        Self { list, buckets: Slots::new(max_buckets) }
    }

    /// Puts other scenarios in place. Where they differ every bucket starts empty, for a capacity may have changed.
    pub fn replace(&mut self, list: &[Scenario]) {
        if self.list != list {
            self.list = list.to_vec();
            self.buckets.retain(|_, _| false);
        }
    }

    /// Buckets in use, and how many had to leave.
    pub fn sizes(&self) -> (usize, u64) {
        (self.buckets.len(), self.buckets.evicted())
    }

    /// Pours `count` offences of one kind and client; tells what ran over.
    pub fn pour(&mut self, offence: &Offence, count: u32, context: &Context, now_ms: u64) -> Vec<Overflow> {
        let at_ms = offence.at_ms.clamp(now_ms.saturating_sub(MAX_LATE_MS), now_ms);
        let behind = matches!(offence.client.reach(), Reach::Behind(_));
        let mut over = Vec::new();
        for (index, scenario) in self.list.iter().enumerate() {
            if !applies(scenario, offence) {
                continue;
            }
            let Some(scope) = scope_of(scenario.by, offence, context) else { continue };
            let key = Key { scenario: index as u16, behind, scope };
            let bucket = self.buckets.entry(&key, || Bucket {
                empty_ms: at_ms,
                recent: 0.0,
                recent_ms: at_ms,
                cause: Cause::default(),
            });
            if bucket.pour(scenario, offence, count, context, at_ms)
                && let Some(full) = self.buckets.remove(&key)
            {
                let action = match (scenario.action, behind) {
                    (Action::KernelBan, true) => Action::L7Deny,
                    (action, _) => action,
                };
                over.push(Overflow {
                    scope: key.scope,
                    action,
                    scenario: scenario.name.clone(),
                    length_ms: scenario.length.as_millis() as u64,
                    cause: full.cause,
                });
            }
        }
        over
    }

    /// The buckets that an address fills now.
    pub fn levels(&self, addr: std::net::IpAddr, shares_network: bool, now_ms: u64) -> Vec<Level> {
        let mut levels = Vec::new();
        for (index, scenario) in self.list.iter().enumerate() {
            let Some(scope) = scope_of_addr(scenario.by, addr) else { continue };
            let alone = Scope::Network(IpNetwork::host(addr.to_canonical()));
            let scope = if shares_network { alone } else { scope };
            for behind in [false, true] {
                let key = Key { scenario: index as u16, behind, scope: scope.clone() };
                let Some(bucket) = self.buckets.get(&key).filter(|b| b.empty_ms > now_ms) else { continue };
                levels.push(Level {
                    scenario: scenario.name.clone(),
                    scope: scope.clone(),
                    level: (bucket.empty_ms - now_ms).div_ceil(leak_ms(scenario)),
                    capacity: scenario.capacity,
                });
            }
        }
        levels
    }

    /// Empties every bucket of an address.
    pub fn forget(&mut self, network: &IpNetwork) {
        self.buckets.retain(|key, _| key.scope.network().is_none_or(|n| !network.overlaps(&n)));
    }
}

fn applies(scenario: &Scenario, offence: &Offence) -> bool {
    scenario.kinds.contains(&offence.kind)
        && (scenario.subjects.is_empty()
            || offence.subject.as_ref().is_some_and(|s| scenario.subjects.contains(s)))
}

fn scope_of(by: By, offence: &Offence, context: &Context) -> Option<Scope> {
    match by {
        By::Asn => context.asn.map(Scope::Asn),
        By::Ja4 => offence.ja4.clone().map(Scope::Ja4),
        By::Address | By::Client | By::Network => {
            let by = if context.shares_network { By::Address } else { by };
            scope_of_addr(by, offence.client.addr())
        }
    }
}

fn scope_of_addr(by: By, addr: std::net::IpAddr) -> Option<Scope> {
    let addr = addr.to_canonical();
    Some(Scope::Network(match by {
        By::Address => IpNetwork::host(addr),
        By::Client => client_network(addr),
        By::Network => IpNetwork::containing(addr, if addr.is_ipv4() { 24 } else { 48 }),
        By::Asn | By::Ja4 => return None,
    }))
}

fn leak_ms(scenario: &Scenario) -> u64 {
    (scenario.leak.as_millis() as u64).max(1)
}

impl Bucket {
    /// Adds offences; whether it runs over and the scenario's share is reached.
    fn pour(
        &mut self,
        scenario: &Scenario,
        offence: &Offence,
        count: u32,
        context: &Context,
        at_ms: u64,
    ) -> bool {
        if self.recent_ms > at_ms.saturating_add(MAX_LATE_MS) {
            // The clock was set back: what the bucket holds can't be dated.
            (self.empty_ms, self.recent, self.recent_ms) = (at_ms, 0.0, at_ms);
        }
        let at_ms = at_ms.max(self.recent_ms);
        if self.empty_ms <= at_ms {
            self.cause = Cause::default();
        }
        self.note(offence, count, at_ms);
        let each = if scenario.weighed { offence.weight.max(1) } else { 1 };
        let amount = u64::from(each) * u64::from(count);
        let leak = leak_ms(scenario);
        let patience = if context.patience == 0 { 100 } else { u64::from(context.patience) };
        let holds = u64::from(scenario.capacity) * patience / 100 * leak;
        self.empty_ms = self.empty_ms.max(at_ms).saturating_add(amount.saturating_mul(leak));
        let half_life = if holds <= SHORT_BUCKET_MS { SHORT_MS } else { LONG_MS };
        self.recent =
            self.recent.mul_add(decay(at_ms.saturating_sub(self.recent_ms), half_life), f64::from(count));
        self.recent_ms = at_ms;
        if self.empty_ms - at_ms <= holds {
            return false;
        }
        if let Some(share) = scenario.share {
            let requests =
                if holds <= SHORT_BUCKET_MS { context.requests.short } else { context.requests.long };
            let of = requests.max(self.recent);
            if self.recent * 100.0 < f64::from(share) * of {
                // It stays full: when the honest part falls away, the next offence decides.
                self.empty_ms = at_ms + holds;
                return false;
            }
            self.cause.share = Some(format!("{:.0} of {of:.0} recent requests", self.recent).into());
        }
        self.cause.trust.clone_from(&context.trust);
        true
    }

    fn note(&mut self, offence: &Offence, count: u32, at_ms: u64) {
        let cause = &mut self.cause;
        if cause.offences.is_empty() {
            cause.first_ms = at_ms;
        }
        cause.last_ms = at_ms;
        *cause.offences.entry(offence.kind).or_default() += u64::from(count);
        for rule in offence.rules.iter().take(Offence::MAX_RULES) {
            if cause.rules.len() < MAX_CAUSE_RULES && !cause.rules.contains(rule) {
                cause.rules.push(*rule);
            }
        }
        if let Some(id) = &offence.request_id {
            if cause.requests.len() == MAX_CAUSE_REQUESTS {
                cause.requests.remove(0);
            }
            cause.requests.push(id.clone());
        }
        if offence.subject.is_some() {
            cause.subject.clone_from(&offence.subject);
        }
    }
}

#[cfg(test)]
mod tests;
