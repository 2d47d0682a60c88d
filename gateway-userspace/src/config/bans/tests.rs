use std::path::Path;

use super::*;
use crate::config::Config;

fn parse(text: &str) -> Result<Bans, String> {
    Config::parse(Path::new("gateway.toml"), text).map(|c| c.bans).map_err(|e| e.to_string())
}

#[test]
fn the_defaults_protect() {
    let bans = parse("").expect("the empty file");
    assert!(bans.enabled);
    assert_eq!(bans.scenarios, defaults());
    assert_eq!((bans.widest_v4, bans.widest_v6, bans.max_decisions), (20, 40, 200_000));
    let neighbours = bans.neighbours.expect("neighbours");
    assert_eq!((neighbours.v4, neighbours.v6, neighbours.clients), (24, 48, 16));
    for kind in OffenceKind::ALL {
        assert!(bans.scenarios.iter().any(|s| s.kinds.contains(&kind)), "{kind} is judged");
    }
}

#[test]
fn a_scenario_replaces_the_default_of_its_name() {
    let bans = parse(
        "[[bans.scenarios]]\nname = \"waf\"\nkinds = [\"waf\"]\ncapacity = 1\nleak = \"1m\"\naction = \"l7-deny\"\n",
    )
    .expect("scenario");
    let waf: Vec<&Scenario> = bans.scenarios.iter().filter(|s| &*s.name == "waf").collect();
    assert_eq!(waf.len(), 1);
    assert_eq!((waf[0].capacity, waf[0].action, waf[0].by), (1, Action::L7Deny, By::Client));
    assert_eq!(bans.scenarios.len(), defaults().len());
    let alone = parse("[bans]\ndefault_scenarios = false").expect("none");
    assert!(alone.scenarios.is_empty());
}

#[test]
fn problems_name_place_and_remedy() {
    let scenario = |rest: &str| {
        format!("[[bans.scenarios]]\nname = \"x\"\nkinds = [\"waf\"]\ncapacity = 1\nleak = \"1m\"\n{rest}")
    };
    for (text, expected) in [
        ("[bans]\nwidest_v4 = 0".to_owned(), "gateway.toml:2:13: `widest_v4` is from 1 to 32"),
        ("[bans]\nmax_decisions = 0".to_owned(), "`max_decisions` is from 1 to 2000000"),
        ("[bans]\nretain = \"1d\"".to_owned(), "`retain` is shorter than `escalation.memory`"),
        ("[bans.escalation]\nfactor = 0".to_owned(), "`factor` is from 1 to 100; default 4"),
        ("[bans.neighbours]\nv4 = 16".to_owned(), "`v4` is from 20 to 31"),
        (scenario("action = \"block\""), "unknown variant `block`"),
        (scenario("by = \"ja4\"\naction = \"kernel-ban\""), "the kernel knows addresses only"),
        (scenario("by = \"network\"\nshare = 5\naction = \"observe\""), "requests are counted by client"),
        (scenario("share = 0\naction = \"observe\""), "`share` is a percentage"),
        (scenario("length = \"0s\"\naction = \"observe\""), "`length`, the first ban's"),
        (scenario("bucket = 1\naction = \"observe\""), "unknown field `bucket`"),
    ] {
        let got = parse(&text).expect_err(&text);
        assert!(got.contains(expected), "{text}\n{got}");
    }
}
