use std::time::Duration;

use super::*;
use crate::bans::OffenceKind;
use crate::client::ClientId;

fn scenario(capacity: u32, leak_s: u64, share: Option<u8>) -> Scenario {
    Scenario {
        name: "t".into(),
        kinds: vec![OffenceKind::Waf],
        subjects: Vec::new(),
        by: By::Client,
        capacity,
        leak: Duration::from_secs(leak_s),
        weighed: false,
        share,
        action: Action::KernelBan,
        length: Duration::from_mins(10),
    }
}

fn offence(client: ClientId, at_ms: u64) -> Offence {
    Offence {
        at_ms,
        client,
        kind: OffenceKind::Waf,
        weight: 5,
        rules: vec![942100],
        subject: Some("shop".into()),
        request_id: Some(format!("r{at_ms}").into()),
        ja4: Some("t13d".into()),
    }
}

fn direct(addr: &str) -> ClientId {
    ClientId::direct(addr.parse().expect("address"))
}

/// The 0-based number of the first offence that runs over, of 100 that come every `every_s`.
fn first_over(scenario: Scenario, every_s: u64, context: &Context) -> Option<u64> {
    let mut scenarios = Scenarios::new(vec![scenario], 1000);
    (0..100).find(|i| {
        let now = 1_000_000 + i * every_s * 1000;
        !scenarios.pour(&offence(direct("192.0.2.1"), now), 1, context, now).is_empty()
    })
}

#[test]
fn a_bucket_runs_over_by_rate() {
    let busy = |short: f64| Context { requests: Requests { short, long: short }, ..Context::default() };
    let patient = |patience| Context { patience, ..Context::default() };
    let plain = Context::default();
    for (what, scenario_, every_s, context, expected) in [
        ("capacity 4: the fifth", scenario(4, 30, None), 0, &plain, Some(4)),
        ("capacity 0: the first", scenario(0, 30, None), 0, &plain, Some(0)),
        ("slower than the leak: never", scenario(4, 30, None), 30, &plain, None),
        ("a little faster: late", scenario(4, 30, None), 20, &plain, Some(10)),
        (
            "weighed: the score counts",
            Scenario { weighed: true, ..scenario(12, 30, None) },
            0,
            &plain,
            Some(2),
        ),
        ("a share it has", scenario(4, 30, Some(50)), 0, &plain, Some(4)),
        ("a share it has not", scenario(4, 30, Some(50)), 0, &busy(1000.0), None),
        ("a share it reaches", scenario(4, 30, Some(50)), 0, &busy(20.0), Some(9)),
        ("little patience", scenario(4, 30, None), 0, &patient(50), Some(2)),
        ("much patience", scenario(4, 30, None), 0, &patient(200), Some(8)),
        (
            "another kind",
            Scenario { kinds: vec![OffenceKind::Slow], ..scenario(0, 30, None) },
            0,
            &plain,
            None,
        ),
        (
            "another route",
            Scenario { subjects: vec!["blog".into()], ..scenario(0, 30, None) },
            0,
            &plain,
            None,
        ),
        (
            "its route",
            Scenario { subjects: vec!["shop".into()], ..scenario(0, 30, None) },
            0,
            &plain,
            Some(0),
        ),
    ] {
        assert_eq!(first_over(scenario_, every_s, context), expected, "{what}");
    }
}

#[test]
fn scopes_and_actions() {
    let proxy = "10.0.0.1".parse().expect("address");
    let behind = ClientId::behind(proxy, "192.0.2.1".parse().expect("address"));
    let asn = Context { asn: Some(64500), ..Context::default() };
    for (by, client, context, expected) in [
        (By::Client, direct("192.0.2.1"), Context::default(), Some(("192.0.2.1", Action::KernelBan))),
        (By::Client, direct("2001:db8::7"), Context::default(), Some(("2001:db8::/64", Action::KernelBan))),
        (By::Address, direct("2001:db8::7"), Context::default(), Some(("2001:db8::7", Action::KernelBan))),
        (By::Network, direct("192.0.2.1"), Context::default(), Some(("192.0.2.0/24", Action::KernelBan))),
        (By::Network, direct("2001:db8::7"), Context::default(), Some(("2001:db8::/48", Action::KernelBan))),
        (By::Client, behind, Context::default(), Some(("192.0.2.1", Action::L7Deny))),
        (By::Ja4, direct("192.0.2.1"), Context::default(), Some(("ja4:t13d", Action::KernelBan))),
        (By::Asn, direct("192.0.2.1"), Context::default(), None),
        (By::Asn, direct("192.0.2.1"), asn, Some(("asn:64500", Action::KernelBan))),
    ] {
        let mut scenarios = Scenarios::new(vec![Scenario { by, ..scenario(0, 1, None) }], 10);
        let over = scenarios.pour(&offence(client, 5), 1, &context, 5);
        let got = over.first().map(|o| (o.scope.to_string(), o.action));
        assert_eq!(got, expected.map(|(scope, action)| (scope.to_owned(), action)), "{by:?}");
    }
}

#[test]
fn the_cause_names_what_filled_the_bucket() {
    let mut scenarios = Scenarios::new(vec![scenario(20, 30, None)], 10);
    let mut over = Vec::new();
    for at in 1_000..1_100 {
        over.extend(scenarios.pour(&offence(direct("192.0.2.1"), at), 1, &Context::default(), at));
        if !over.is_empty() {
            break;
        }
    }
    let cause = &over[0].cause;
    assert_eq!(cause.offences.get(&OffenceKind::Waf), Some(&21));
    assert_eq!((cause.first_ms, cause.last_ms), (1_000, 1_020));
    assert_eq!(cause.rules, [942100]);
    assert_eq!(cause.requests.len(), MAX_CAUSE_REQUESTS);
    assert_eq!(cause.requests.last().map(|r| &**r), Some("r1020"));
    assert_eq!(cause.subject.as_deref(), Some("shop"));
}

#[test]
fn aggregated_offences_count_whole_and_levels_tell() {
    let mut scenarios = Scenarios::new(vec![scenario(10, 30, None)], 10);
    let client = direct("192.0.2.1");
    assert!(scenarios.pour(&offence(client, 5), 7, &Context::default(), 5).is_empty());
    let levels = scenarios.levels(client.addr(), false, 5);
    assert_eq!((levels[0].level, levels[0].capacity), (7, 10));
    assert_eq!(scenarios.pour(&offence(client, 5), 4, &Context::default(), 5).len(), 1);
    assert!(scenarios.levels(client.addr(), false, 5).is_empty());
}

#[test]
fn times_out_of_order_do_no_harm() {
    let mut scenarios = Scenarios::new(vec![scenario(4, 30, None)], 10);
    // After the clock was set back the bucket starts anew.
    for (at, now) in [(u64::MAX, 1_000_000), (0, 1_000_000), (2_000_000, 1_000_000), (5, 5)] {
        assert!(scenarios.pour(&offence(direct("192.0.2.9"), at), 1, &Context::default(), now).is_empty());
    }
}
