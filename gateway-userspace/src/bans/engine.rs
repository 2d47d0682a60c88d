//! From an offence to decisions: guard, memory, trust, scenarios, ledger, in this order. Pure.

use std::net::IpAddr;

use super::guard::Guard;
use super::ledger::{Change, Ledger, Length, Order, Refusal};
use super::scenarios::{Context, Overflow, Scenarios};
use super::traffic::Requests;
use super::trust::{Memory, Trust};
use super::{Cause, Offence, Origin, Scope};
use crate::client::IpNetwork;
use crate::config::bans::Bans;

/// What the engine did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Offences judged.
    pub offences: u64,
    /// Offences of guarded clients: they are not judged.
    pub guarded: u64,
    /// Buckets that ran over.
    pub overflows: u64,
    /// Decisions that the ledger refused, because one holds already, or by the guard.
    pub refused: u64,
}

/// Scenarios, memory and ledger of one node.
#[derive(Debug)]
pub struct Engine {
    /// Every decision.
    pub ledger: Ledger,
    /// The buckets.
    pub scenarios: Scenarios,
    /// Offenders of late.
    pub memory: Memory,
    counts: Counts,
}

impl Engine {
    /// An engine with nothing in it; `node` is this node's number in decision ids.
    pub fn new(config: &Bans, guard: Guard, node: u32) -> Self {
        Self {
            ledger: Ledger::new(config, guard, node),
            scenarios: Scenarios::new(config.scenarios.clone(), config.max_buckets),
            memory: Memory::default(),
            counts: Counts::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Judges `count` like offences of a client that asked for `requests` of late.
    pub fn judge(
        &mut self,
        offence: &Offence,
        count: u32,
        requests: Requests,
        asn: Option<u32>,
        now_ms: u64,
    ) -> Vec<Change> {
        if self.ledger.guard().guards(offence.client.addr()).is_some() {
            self.counts.guarded += u64::from(count);
            return Vec::new();
        }
        self.counts.offences += u64::from(count);
        let scope = Scope::Network(super::traffic::client_network(offence.client.addr()));
        let earlier = self.ledger.earlier_bans(&scope, now_ms);
        let shares_network = self.shares_network(offence.client.addr());
        let record = self.memory.note(offence, count);
        let trust = Trust::of(Some(record), requests, earlier);
        let context = Context {
            requests,
            asn,
            patience: trust.patience(),
            trust: (!trust.parts.is_empty()).then(|| trust.to_string().into()),
            shares_network,
        };
        for overflow in self.scenarios.pour(offence, count, &context, now_ms) {
            self.counts.overflows += 1;
            if let Err(refusal) = self.ledger.decide(order(overflow), now_ms) {
                self.counts.refused += 1;
                if !matches!(refusal, Refusal::Held { .. }) {
                    tracing::debug!(%refusal, "a scenario's decision is refused");
                }
            }
        }
        self.ledger.take_changes()
    }

    /// Whether the network that a ban of this client would cover holds somebody who is never banned, such as this
    /// host itself in the /64 of its own link.
    pub fn shares_network(&self, addr: IpAddr) -> bool {
        let network = super::traffic::client_network(addr);
        network.prefix() != IpNetwork::host(network.addr()).prefix()
            && matches!(
                self.ledger.guard().check(&Scope::Network(network)),
                Err(super::GuardRefusal::Guarded { .. })
            )
    }

    /// Puts a new configuration in place: what it guards now ends, and scenarios that differ begin anew.
    pub fn configure(&mut self, config: &Bans, guard: Guard, now_ms: u64) {
        let guard = self
            .ledger
            .guard()
            .operators()
            .fold(guard, |guard, network| guard.with([network], super::Guarded::Operator));
        self.ledger.configure(config, guard, now_ms);
        self.scenarios.replace(&config.scenarios);
    }

    /// A client's standing now.
    pub fn trust(&self, addr: IpAddr, requests: Requests, now_ms: u64) -> Trust {
        let scope = Scope::Network(super::traffic::client_network(addr));
        Trust::of(self.memory.of(addr), requests, self.ledger.earlier_bans(&scope, now_ms))
    }
}

fn order(overflow: Overflow) -> Order {
    let reason = reason(&overflow.scenario, &overflow.cause);
    Order {
        id: None,
        scope: overflow.scope,
        action: overflow.action,
        origin: Origin::Local,
        reason: reason.into(),
        scenario: Some(overflow.scenario),
        cause: overflow.cause,
        length: Length::Escalating(overflow.length_ms),
    }
}

/// `scenario waf: 5 waf offences in 12 s`.
fn reason(scenario: &str, cause: &Cause) -> String {
    let offences: Vec<String> =
        cause.offences.iter().map(|(kind, count)| format!("{count} {kind} offences")).collect();
    let seconds = cause.last_ms.saturating_sub(cause.first_ms).div_ceil(1000);
    format!("scenario {scenario}: {} in {seconds} s", offences.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bans::{Action, OffenceKind};
    use crate::client::ClientId;
    use crate::config::Config;

    #[test]
    fn default_scenarios_ban_an_attacker_and_spare_the_guarded() {
        let config = Config::parse(std::path::Path::new("t.toml"), "").expect("configuration").bans;
        let guard = Guard::new(20, 40)
            .with(["198.51.100.8".parse().expect("network")], super::super::Guarded::Management);
        let mut engine = Engine::new(&config, guard, 1);
        let mut attack = |client: ClientId, at_ms: u64| {
            let offence = Offence {
                at_ms,
                client,
                kind: OffenceKind::Waf,
                weight: 5,
                rules: vec![942100],
                subject: None,
                request_id: Some("r1".into()),
                ja4: None,
            };
            engine.judge(&offence, 1, Requests::default(), None, at_ms)
        };
        let addr = |text: &str| text.parse().expect("address");
        let attacker = ClientId::direct(addr("192.0.2.66"));
        for at in 1..5 {
            assert_eq!(attack(attacker, at), []);
        }
        let changes = attack(attacker, 2_000);
        let [Change::Began(ban)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((ban.action, &*ban.reason), (Action::KernelBan, "scenario waf: 5 waf offences in 2 s"));
        let behind = ClientId::behind(addr("10.0.0.1"), addr("192.0.2.67"));
        let actions: Vec<Action> =
            (1..9).flat_map(|at| attack(behind, at)).map(|c| c.decision().action).collect();
        assert_eq!(actions, [Action::L7Deny]);
        let changes: Vec<Change> =
            (1..99).flat_map(|at| attack(ClientId::direct(addr("198.51.100.8")), at)).collect();
        assert_eq!(changes, []);
        assert_eq!(engine.counts().guarded, 98);
    }

    #[test]
    fn in_our_own_network_single_hosts_are_banned() {
        let config = Config::parse(std::path::Path::new("t.toml"), "").expect("configuration").bans;
        let own: IpNetwork = "2001:db8::1".parse().expect("network");
        let mut engine = Engine::new(&config, Guard::new(20, 40).with([own], super::super::Guarded::Own), 1);
        let mut attack = |addr: &str, at_ms: u64| {
            let offence = Offence {
                at_ms,
                client: ClientId::direct(addr.parse().expect("address")),
                kind: OffenceKind::Waf,
                weight: 5,
                rules: vec![],
                subject: None,
                request_id: None,
                ja4: None,
            };
            let changes = engine.judge(&offence, 1, Requests::default(), None, at_ms);
            changes.iter().map(|c| c.decision().scope.to_string()).collect::<Vec<_>>()
        };
        // A neighbour's offences don't fill the bucket of the attacker.
        let neighbour: Vec<String> = (1..4).flat_map(|at| attack("2001:db8::2", at)).collect();
        assert_eq!(neighbour, Vec::<String>::new());
        let attacker: Vec<String> = (4..9).flat_map(|at| attack("2001:db8::66", at)).collect();
        assert_eq!(attacker, ["2001:db8::66"]);
        let elsewhere: Vec<String> = (9..14).flat_map(|at| attack("2001:db8:0:1::66", at)).collect();
        assert_eq!(elsewhere, ["2001:db8:0:1::/64"]);
        let own: Vec<String> = (14..30).flat_map(|at| attack("2001:db8::1", at)).collect();
        assert_eq!(own, Vec::<String>::new());
    }

    #[test]
    fn a_new_configuration_keeps_what_operators_allowed_and_ends_what_it_guards() {
        let config = Config::parse(std::path::Path::new("t.toml"), "").expect("configuration").bans;
        let net = |text: &str| text.parse::<IpNetwork>().expect("network");
        let mut engine = Engine::new(&config, Guard::new(20, 40), 1);
        engine.ledger.allow(net("198.51.100.1"), 1);
        let order = Order {
            id: None,
            scope: "192.0.2.1".parse().expect("scope"),
            action: Action::KernelBan,
            origin: Origin::Operator,
            reason: "test".into(),
            scenario: None,
            cause: Cause::default(),
            length: Length::Until(None),
        };
        engine.ledger.decide(order.clone(), 1).expect("banned");
        engine
            .ledger
            .decide(Order { scope: "192.0.2.9".parse().expect("scope"), ..order }, 1)
            .expect("banned");
        engine.ledger.take_changes();
        let guard = Guard::new(20, 40).with([net("192.0.2.1")], super::super::Guarded::Allowlist);
        engine.configure(&config, guard, 2);
        let ended: Vec<String> =
            engine.ledger.take_changes().iter().map(|c| c.decision().scope.to_string()).collect();
        assert_eq!(ended, ["192.0.2.1"]);
        assert_eq!(engine.ledger.len(), 1);
        assert!(engine.ledger.guard().guards(net("198.51.100.1").addr()).is_some());
    }
}
