//! Bans that stand in the kernel and that the ledger does not know, at a start after which no clean end lies.
//!
//! A ban is written to the kernel before the journal: a process killed in between leaves it there alone. So does a
//! database that is new or was damaged. They are taken into the ledger, which would lift them otherwise.

use std::collections::HashMap;

use crate::bans::ledger::{Ledger, Length, Order};
use crate::bans::store::Before;
use crate::bans::writer::{BanReason, KernelBan, SAME_END_MS};
use crate::bans::{Action, Cause, Decision, MAX_KERNEL_TTL_MS, Origin, Scope};
use crate::client::IpNetwork;

/// Takes the bans in that `standing` has and the ledger does not know.
pub(super) fn adopt(ledger: &mut Ledger, standing: &[KernelBan], before: Before, now_ms: u64) {
    let mut unknown: HashMap<IpNetwork, &KernelBan> = standing
        .iter()
        .filter(|ban| ledger.effect_on(&Scope::Network(ban.network)).0.is_none())
        .map(|ban| (ban.network, ban))
        .collect();
    // A ban whose end was journalled, and that was not lifted in time.
    for ended in ledger.ended() {
        let Some(network) = ended.decision.scope.network() else { continue };
        if unknown.get(&network).is_some_and(|ban| is_of(ban, &ended.decision)) {
            unknown.remove(&network);
        }
    }
    let mut adopted = 0;
    for ban in unknown.into_values() {
        let origin = match ban.reason {
            BanReason::Local => Origin::Local,
            BanReason::Operator => Origin::Operator,
            // Who told of them tells again, and takes them back: where nothing is known, they hold until then.
            _ if before == Before::Killed => continue,
            _ => Origin::Operator,
        };
        let order = Order {
            id: None,
            scope: Scope::Network(ban.network),
            action: Action::KernelBan,
            origin,
            reason: "kept in the kernel over a restart".into(),
            scenario: None,
            cause: Cause::default(),
            length: Length::Until((ban.until_unix_ms != u64::MAX).then_some(ban.until_unix_ms)),
        };
        adopted += usize::from(ledger.decide(order, now_ms).is_ok());
    }
    if adopted > 0 {
        tracing::info!(bans = adopted, "bans taken over from the kernel");
    }
}

/// Whether the kernel's ban is what this decision left there.
fn is_of(ban: &KernelBan, decision: &Decision) -> bool {
    let end = decision.end_or_max();
    let is_long = end.saturating_sub(decision.start_ms) > MAX_KERNEL_TTL_MS;
    is_long || end.abs_diff(ban.until_unix_ms) <= SAME_END_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bans::{Ending, Guard};
    use crate::config::Config;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn what_only_the_kernel_knows_is_taken_in() {
        let config = Config::parse(std::path::Path::new("t.toml"), "").expect("configuration").bans;
        let net = |text: &str| text.parse::<IpNetwork>().expect("network");
        let check = |before, expected: &[(&str, Origin)]| {
            let mut ledger = Ledger::new(&config, Guard::new(20, 40), 1);
            for (scope, minutes) in [("192.0.2.1", 1), ("192.0.2.2", 1), ("192.0.2.3", 5)] {
                let order = Order {
                    id: None,
                    scope: scope.parse().expect("scope"),
                    action: Action::KernelBan,
                    origin: Origin::Local,
                    reason: "known".into(),
                    scenario: None,
                    cause: Cause::default(),
                    length: Length::Until(Some(NOW + minutes * 60_000)),
                };
                let decision = ledger.decide(order, NOW).expect("decided");
                if scope != "192.0.2.1" {
                    ledger.remove(decision.id, Ending::Removed, NOW);
                }
            }
            let ban = |network, seconds: u64, reason| KernelBan {
                network: net(network),
                until_unix_ms: NOW + seconds * 1000,
                reason,
            };
            let standing = [
                ban("192.0.2.1", 60, BanReason::Local),
                // Taken back, and not lifted in time; the next one is newer than what was taken back.
                ban("192.0.2.2", 61, BanReason::Local),
                ban("192.0.2.3", 600, BanReason::Local),
                ban("192.0.2.4", 60, BanReason::Operator),
                ban("192.0.2.5", 60, BanReason::Peer),
            ];
            adopt(&mut ledger, &standing, before, NOW + 1);
            let mut adopted: Vec<(String, Origin)> = ledger
                .iter()
                .filter(|d| d.reason.contains("kept in the kernel"))
                .map(|d| (d.scope.to_string(), d.origin.clone()))
                .collect();
            adopted.sort();
            let expected: Vec<(String, Origin)> =
                expected.iter().map(|(scope, origin)| ((*scope).to_owned(), origin.clone())).collect();
            assert_eq!(adopted, expected, "{before:?}");
        };
        check(Before::Killed, &[("192.0.2.3", Origin::Local), ("192.0.2.4", Origin::Operator)]);
        check(
            Before::Unknown,
            &[("192.0.2.3", Origin::Local), ("192.0.2.4", Origin::Operator), ("192.0.2.5", Origin::Operator)],
        );
    }
}
