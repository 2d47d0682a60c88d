use super::*;
use crate::config::Config;

const MINUTE: u64 = 60_000;
const NOW: u64 = 1_700_000_000_000;

fn config(text: &str) -> Bans {
    Config::parse(std::path::Path::new("t.toml"), text).expect("configuration").bans
}

fn ledger(text: &str) -> Ledger {
    let config = config(text);
    let own: IpNetwork = "198.51.100.8".parse().expect("network");
    let guard = Guard::new(config.widest_v4, config.widest_v6).with([own], Guarded::Allowlist);
    Ledger::new(&config, guard, 7)
}

fn order(scope: &str, origin: Origin, length: Length) -> Order {
    Order {
        id: None,
        scope: scope.parse().expect("scope"),
        action: Action::KernelBan,
        origin,
        reason: "test".into(),
        scenario: None,
        cause: Cause::default(),
        length,
    }
}

fn local(scope: &str) -> Order {
    order(scope, Origin::Local, Length::Escalating(10 * MINUTE))
}

fn operator(scope: &str, end: Option<u64>) -> Order {
    order(scope, Origin::Operator, Length::Until(end))
}

#[test]
fn bans_escalate_are_remembered_and_forgiven() {
    let mut ledger = ledger("[bans.escalation]\nfactor = 4\nmaximum = \"3h\"\nmemory = \"1d\"");
    let mut now = NOW;
    for expected_minutes in [10, 40, 160, 180, 180] {
        let decision = ledger.decide(local("192.0.2.1"), now).expect("ban");
        assert_eq!(decision.end_ms, Some(now + expected_minutes * MINUTE));
        now = decision.end_or_max();
        ledger.expire(now);
        assert!(ledger.is_empty());
    }
    now += 25 * 60 * MINUTE;
    let decision = ledger.decide(local("192.0.2.1"), now).expect("ban");
    assert_eq!((decision.end_ms, decision.cause.earlier_bans), (Some(now + 10 * MINUTE), 0));
    ledger.remove(decision.id, Ending::Removed, now);
    let again = ledger.decide(local("192.0.2.1"), now + 1).expect("ban");
    assert_eq!(again.cause.earlier_bans, 0, "a ban that was taken back is none");
}

#[test]
fn a_held_ban_does_not_grow_by_itself() {
    let mut ledger = ledger("");
    let first = ledger.decide(local("192.0.2.1"), NOW).expect("ban");
    let refusal = ledger.decide(local("192.0.2.1"), NOW + MINUTE);
    assert_eq!(refusal, Err(Refusal::Held { scope: first.scope.clone(), id: first.id }));
    let later = ledger.decide(local("192.0.2.1"), NOW + 6 * MINUTE).expect("worth it");
    assert_eq!((later.end_ms, later.cause.earlier_bans), (Some(NOW + 16 * MINUTE), 0));
    assert_eq!(ledger.len(), 1);
    let endings: Vec<Ending> = ledger.ended().map(|e| e.how).collect();
    assert_eq!(endings, [Ending::Replaced]);
    ledger.expire(NOW + 16 * MINUTE);
    assert_eq!(ledger.earlier_bans(&first.scope, NOW + 16 * MINUTE), 1, "one ban, though made longer");
}

#[test]
fn the_longest_and_the_strongest_hold() {
    let mut ledger = ledger("");
    let scope: Scope = "192.0.2.0/24".parse().expect("scope");
    let operators = ledger.decide(operator("192.0.2.0/24", None), NOW).expect("ban");
    let peers = Origin::Peer("n2".into());
    ledger.decide(order("192.0.2.0/24", peers, Length::Until(Some(NOW + MINUTE))), NOW).expect("ban");
    let deny = Order { action: Action::L7Deny, ..local("192.0.2.0/24") };
    ledger.decide(deny, NOW).expect("deny");
    let in_kernel = |ledger: &Ledger| ledger.effect_on(&scope).0.map(|(until, _)| until);
    assert_eq!(in_kernel(&ledger), Some(u64::MAX));
    assert_eq!(ledger.effect_on(&scope).1.map(|d| d.id), Some(operators.id));
    assert_eq!(ledger.covering("192.0.2.77".parse().expect("address")).len(), 3);
    ledger.remove(operators.id, Ending::Removed, NOW);
    assert_eq!(in_kernel(&ledger), Some(NOW + MINUTE));
    ledger.expire(NOW + MINUTE);
    assert_eq!(in_kernel(&ledger), None);
    assert_eq!(ledger.effect_on(&scope).1.map(|d| d.action), Some(Action::L7Deny));
    let shorter = ledger.decide(operator("192.0.2.0/24", Some(NOW + MINUTE)), NOW).expect("ban");
    let shortest = ledger.decide(operator("192.0.2.0/24", Some(NOW + 9)), NOW).expect("an operator's word");
    assert!(ledger.get(shorter.id).is_none() && ledger.get(shortest.id).is_some());
}

#[test]
fn refusals() {
    let check = |order: Order, expected: &str| {
        let got = ledger("").decide(order, NOW).expect_err(expected).to_string();
        assert!(got.contains(expected), "{got}");
    };
    check(local("198.51.100.8"), "it is never banned");
    check(operator("0.0.0.0/0", None), "every address");
    check(operator("192.0.0.0/16", None), "wider than /20");
    check(operator("192.0.2.1", Some(NOW)), "lies in the past");
    check(operator("ja4:abc", None), "Use the action l7-deny");
}

#[test]
fn a_full_ledger_drops_the_automatic_ban_with_the_least_time_left() {
    let mut ledger = ledger("[bans]\nmax_decisions = 2\n[bans.neighbours]\nenabled = false");
    let shorter = ledger.decide(local("192.0.2.1"), NOW).expect("ban");
    let kept = ledger.decide(operator("192.0.2.2", Some(NOW + 1)), NOW).expect("ban");
    ledger.take_changes();
    ledger.decide(operator("192.0.2.3", None), NOW).expect("room was made");
    let changes = ledger.take_changes();
    assert!(
        matches!(&changes[0], Change::Ended(e) if e.how == Ending::Evicted && e.decision.id == shorter.id),
        "{changes:?}"
    );
    assert!(ledger.get(kept.id).is_some());
    assert_eq!(ledger.decide(local("192.0.2.4"), NOW), Err(Refusal::Full(2)));
}

#[test]
fn a_neighbourhood_falls_together_but_not_past_the_guard() {
    let mut ledger = ledger("[bans.neighbours]\nclients = 3");
    for host in 1..=2 {
        ledger.decide(local(&format!("192.0.2.{host}")), NOW).expect("ban");
    }
    assert_eq!(ledger.len(), 2);
    ledger.decide(local("192.0.2.3"), NOW).expect("ban");
    let around: Scope = "192.0.2.0/24".parse().expect("scope");
    let whole = ledger.on(&around).next().expect("the neighbourhood").clone();
    assert_eq!(&*whole.reason, "3 clients of 192.0.2.0/24 are banned at the same time");
    ledger.decide(local("192.0.2.4"), NOW).expect("ban");
    assert_eq!(ledger.on(&around).next().map(|d| d.id), Some(whole.id), "one decision, not one a host");
    for host in [1, 2, 3, 9] {
        ledger.decide(local(&format!("198.51.100.{host}")), NOW).expect("ban");
        ledger.decide(local(&format!("2001:db8:7:{host}::/64")), NOW).expect("ban");
    }
    assert_eq!(ledger.on(&"198.51.100.0/24".parse().expect("scope")).count(), 0, "it holds an allowed host");
    assert_eq!(ledger.on(&"2001:db8:7::/48".parse().expect("scope")).count(), 1);
    ledger.expire(NOW + 11 * MINUTE);
    assert!(ledger.is_empty() && ledger.near.is_empty());
}

#[test]
fn allowing_ends_what_overlaps() {
    let mut ledger = ledger("");
    ledger.decide(local("192.0.2.1"), NOW).expect("ban");
    ledger.decide(operator("192.0.2.0/24", None), NOW).expect("ban");
    ledger.decide(local("192.0.3.1"), NOW).expect("ban");
    let host: IpNetwork = "192.0.2.1".parse().expect("network");
    assert!(ledger.allow(host, NOW));
    assert_eq!(ledger.len(), 1);
    assert!(ledger.decide(local("192.0.2.1"), NOW).is_err());
    assert!(ledger.disallow(&host));
    assert!(ledger.decide(local("192.0.2.1"), NOW).is_ok());
}

#[test]
fn what_was_stored_comes_back() {
    let mut before = ledger("");
    let expired = before.decide(local("192.0.2.1"), NOW).expect("ban");
    let held = before.decide(operator("192.0.2.2", None), NOW).expect("ban");
    let mut guarded = (*held).clone();
    guarded.id = DecisionId::new(NOW, 7, 99);
    guarded.scope = "198.51.100.8".parse().expect("scope");
    let now = NOW + 60 * MINUTE;
    let mut after = ledger("");
    for decision in [expired.clone(), held.clone(), held.clone(), Arc::new(guarded)] {
        after.restore(decision, now);
    }
    assert_eq!(after.iter().map(|d| d.id).collect::<Vec<_>>(), [held.id]);
    let endings: Vec<Ending> = after.ended().map(|e| e.how).collect();
    assert_eq!(endings, [Ending::Expired, Ending::Allowed]);
    assert_eq!(after.earlier_bans(&expired.scope, now), 1);
    assert_eq!(after.take_changes().len(), 2);
}

#[test]
fn indexes_stay_whole_under_a_stream() {
    let mut ledger = ledger("[bans]\nmax_decisions = 50\n[bans.neighbours]\nclients = 4");
    let mut state = 9u64;
    for step in 0..20_000u64 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let pick = state >> 33;
        let now = NOW + step * 1_000;
        let scope = format!("192.0.{}.{}", pick % 3, pick / 3 % 40);
        match pick % 7 {
            0 => drop(ledger.decide(operator(&scope, Some(now + pick % 100_000 + 1)), now)),
            1 => drop(ledger.end_where(Ending::Removed, now, |d| d.scope.to_string() == scope)),
            2 => drop(ledger.expire(now)),
            _ => drop(ledger.decide(local(&scope), now)),
        }
        ledger.take_changes();
        let indexed: usize = ledger.by_scope.values().map(Vec::len).sum();
        assert!(ledger.len() <= 50 && indexed == ledger.len() && ledger.by_end.len() == ledger.len());
        let near: u32 = ledger.near.values().sum();
        let counted = ledger.iter().filter(|d| counts(d) && d.scope.network().is_some_and(|n| n.is_host()));
        assert_eq!(near as usize, counted.count());
    }
    assert!(ledger.ended().count() <= MAX_ENDED);
}
