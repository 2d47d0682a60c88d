//! `[[bans.scenarios]]`: how many offences of which kind, by whom, lead to what.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::terms::{Action, By, OffenceKind};
use crate::config::{Problems, Span};

/// Most scenarios.
pub const MAX_SCENARIOS: usize = 64;
/// Most names in a scenario's `subjects`.
pub const MAX_SUBJECTS: usize = 64;
/// Largest capacity of a bucket.
pub const MAX_CAPACITY: u32 = 1_000_000;
/// Longest time for one offence to leak.
pub const MAX_LEAK: Duration = Duration::from_hours(24);
/// Longest ban of a scenario before escalation.
pub const MAX_LENGTH: Duration = Duration::from_hours(24 * 365);

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScenario {
    name: Spanned<String>,
    kinds: Spanned<Vec<OffenceKind>>,
    #[serde(default)]
    subjects: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    by: By,
    capacity: Spanned<u32>,
    leak: Spanned<Span>,
    #[serde(default)]
    weighed: bool,
    #[serde(default)]
    share: Option<Spanned<u8>>,
    action: Spanned<Action>,
    #[serde(default)]
    length: Option<Spanned<Span>>,
}

/// A leaky bucket and what happens when it runs over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// 1 to 64 letters, digits, `-` or `_`; a default scenario of the same name is replaced.
    pub name: Arc<str>,
    /// The kinds of offences that count; at least one.
    pub kinds: Vec<OffenceKind>,
    /// Routes, limits or listeners whose offences count; empty: all. At most [`MAX_SUBJECTS`].
    pub subjects: Vec<Arc<str>>,
    /// Whose offences are collected together; default `client`.
    pub by: By,
    /// Offences that the bucket holds; the next one runs over. From 0 (the first decides) to [`MAX_CAPACITY`].
    pub capacity: u32,
    /// Time for one offence to leak out; 1 ms to [`MAX_LEAK`].
    pub leak: Duration,
    /// Whether an offence counts with its weight (the anomaly score of the WAF) and not as one; default no.
    pub weighed: bool,
    /// Least share of the client's requests that must be offences, in per cent, 1 to 100; default: any.
    pub share: Option<u8>,
    /// What happens to the client.
    pub action: Action,
    /// For how long, the first time; default 10 min; 1 s to [`MAX_LENGTH`].
    pub length: Duration,
}

/// What protects where the configuration says nothing: each catches a behaviour that no honest
/// client shows for long, and lets go of a mistake within minutes.
pub fn defaults() -> Vec<Scenario> {
    use OffenceKind::{
        Authentication, Handshake, Honeypot, KernelLimit, Limit, NotFound, Protocol, Slow, Waf,
    };
    let scenario = |name: &str, kind, capacity, leak_s, share, length_min: u64| Scenario {
        name: name.into(),
        kinds: vec![kind],
        subjects: Vec::new(),
        by: By::Client,
        capacity,
        leak: Duration::from_secs(leak_s),
        weighed: false,
        share,
        action: Action::KernelBan,
        length: Duration::from_secs(length_min * 60),
    };
    vec![
        scenario("waf", Waf, 4, 30, Some(2), 10),
        scenario("honeypot", Honeypot, 2, 600, None, 60),
        scenario("login", Authentication, 10, 60, Some(20), 10),
        scenario("slow-login", Authentication, 40, 1800, Some(50), 60),
        scenario("scan", NotFound, 40, 5, Some(40), 10),
        scenario("slow-scan", NotFound, 100, 600, Some(80), 60),
        scenario("limit", Limit, 1000, 1, Some(50), 5),
        scenario("protocol", Protocol, 20, 10, Some(30), 10),
        scenario("handshake", Handshake, 60, 2, Some(80), 5),
        scenario("slow", Slow, 15, 30, Some(30), 10),
        scenario("kernel-limit", KernelLimit, 20, 5, None, 5),
    ]
}

/// The scenarios of a file: the default ones first, unless left out or replaced by name.
pub(super) fn check(
    raw: Vec<RawScenario>,
    with_defaults: bool,
    problems: &mut Problems<'_>,
) -> Vec<Scenario> {
    let mut scenarios = if with_defaults { defaults() } else { Vec::new() };
    let mut written: Vec<Arc<str>> = Vec::new();
    for one in raw {
        let span = one.name.span();
        let scenario = check_one(one, problems);
        if written.contains(&scenario.name) {
            problems.at(span, format!("scenario `{}` is written twice; rename one.", scenario.name));
            continue;
        }
        written.push(scenario.name.clone());
        scenarios.retain(|s| s.name != scenario.name);
        if scenarios.len() == MAX_SCENARIOS {
            problems.at(span, format!("at most {MAX_SCENARIOS} scenarios are kept, defaults included."));
            break;
        }
        scenarios.push(scenario);
    }
    scenarios
}

fn check_one(raw: RawScenario, problems: &mut Problems<'_>) -> Scenario {
    if !super::is_name(raw.name.get_ref()) {
        problems.at(raw.name.span(), "a name has 1 to 64 letters, digits, `-`, `_` or `.`.");
    }
    if raw.kinds.get_ref().is_empty() {
        let all: Vec<&str> = OffenceKind::ALL.iter().map(|k| k.name()).collect();
        problems.at(raw.kinds.span(), format!("name at least one kind: {}.", all.join(", ")));
    }
    let subjects = raw.subjects.map_or_else(Vec::new, |list| {
        if list.get_ref().len() > MAX_SUBJECTS {
            problems.at(list.span(), format!("at most {MAX_SUBJECTS} subjects."));
        }
        list.into_inner().into_iter().map(Arc::from).collect()
    });
    if *raw.capacity.get_ref() > MAX_CAPACITY {
        problems.at(raw.capacity.span(), format!("`capacity` is at most {MAX_CAPACITY}."));
    }
    let leak = raw.leak.get_ref().0;
    if leak.is_zero() || leak > MAX_LEAK {
        problems.at(raw.leak.span(), "`leak`, the time for one offence to be forgotten, is from 1ms to 24h.");
    }
    if let Some(share) = &raw.share {
        if !(1..=100).contains(share.get_ref()) {
            problems.at(share.span(), "`share` is a percentage from 1 to 100; leave it out for any share.");
        } else if !matches!(raw.by, By::Address | By::Client) {
            problems.at(
                share.span(),
                "requests are counted by client: `share` needs `by` = \"client\" or \"address\".",
            );
        }
    }
    if *raw.action.get_ref() == Action::KernelBan && matches!(raw.by, By::Asn | By::Ja4) {
        problems.at(
            raw.action.span(),
            "the kernel knows addresses only: with `by` = \"asn\" or \"ja4\" use `l7-deny`, `challenge` or `observe`.",
        );
    }
    let length = raw.length.map_or(Duration::from_mins(10), |length| {
        let value = length.get_ref().0;
        if value < Duration::from_secs(1) || value > MAX_LENGTH {
            problems.at(length.span(), "`length`, the first ban's, is from 1s to 365d.");
        }
        value
    });
    Scenario {
        name: raw.name.into_inner().into(),
        kinds: raw.kinds.into_inner(),
        subjects,
        by: raw.by,
        capacity: raw.capacity.into_inner(),
        leak,
        weighed: raw.weighed,
        share: raw.share.map(Spanned::into_inner),
        action: raw.action.into_inner(),
        length,
    }
}
