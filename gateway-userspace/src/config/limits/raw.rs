//! `[[limits]]` as written, and its checks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    Absent, Action, Algorithm, Cost, Exempt, Fallback, Headers, HostPattern, KeyPart, Limit, LimitMode,
    MAX_DELAY, MAX_KEY_PARTS, MAX_LIST, MAX_QUOTA, MAX_WINDOW, MIN_WINDOW, Measure, Rate, Scope, StatusRange,
    StoreKind,
};
use crate::client::IpNetwork;
use crate::config::{Problems, Span};

/// `[[limits]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimit {
    name: Option<Spanned<String>>,
    routes: Option<Spanned<Vec<String>>>,
    hosts: Option<Spanned<Vec<HostPattern>>>,
    methods: Option<Spanned<Vec<String>>>,
    algorithm: Option<Spanned<RawAlgorithm>>,
    quota: Option<Spanned<u64>>,
    window: Option<Spanned<Span>>,
    burst: Option<Spanned<u64>>,
    concurrency: Option<Spanned<u64>>,
    cost: Option<Spanned<u64>>,
    cost_by_method: Option<Spanned<BTreeMap<String, u64>>>,
    cost_by_status: Option<Spanned<BTreeMap<String, u64>>>,
    cost_header: Option<Spanned<String>>,
    count_status: Option<Spanned<Vec<StatusRange>>>,
    key: Option<Spanned<Vec<KeyPart>>>,
    ipv4_prefix: Option<Spanned<u8>>,
    ipv6_prefix: Option<Spanned<u8>>,
    absent: Absent,
    store: Option<Spanned<StoreKind>>,
    fallback: Fallback,
    exempt_networks: Option<Spanned<Vec<IpNetwork>>>,
    exempt_values: Option<Spanned<Vec<String>>>,
    mode: LimitMode,
    action: RawAction,
    delay_max: Option<Spanned<Span>>,
    headers: Headers,
    offence_after: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawAlgorithm {
    SlidingWindow,
    /// Another name of it: what two counters estimate, a log counts.
    WeightedCounters,
    Gcra,
}

impl RawLimit {
    /// What should be known of a limit that is good as written.
    pub(super) fn notice(&self) -> Option<String> {
        let algorithm = self.algorithm.as_ref().map(Spanned::get_ref);
        let name = self.name.as_ref().map(Spanned::get_ref)?;
        (algorithm == Some(&RawAlgorithm::WeightedCounters)).then(|| {
            format!(
                "the limit `{name}` is kept as sliding-window: weighted counters would admit more than the quota. Write that \
                 name; docs/decisions/0060-one-sliding-window.md says why."
            )
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawAction {
    #[default]
    Refuse,
    Delay,
    Challenge,
    Ban,
}

pub(super) fn check(
    mut raw: RawLimit,
    has_redis: bool,
    names: &mut Vec<String>,
    problems: &mut Problems<'_>,
) -> Option<Limit> {
    let Some(name) = raw.name.take() else {
        problems.whole("a [[limits]] has no `name`: give each limit a name of its own.");
        return None;
    };
    let here = name.span();
    let name = name.into_inner();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        problems
            .at(here.clone(), "a limit's name has 1 to 64 letters, digits, dashes, underscores and dots.");
    }
    if names.contains(&name) {
        problems.at(here.clone(), format!("two limits are named `{name}`: a name stands for one limit."));
    }
    names.push(name.clone());

    let scope = scope(&mut raw, problems);
    let key = key(raw.key.take(), problems);
    let measure = measure(&mut raw, &here, has_redis, problems)?;
    let action = action(raw.action, raw.delay_max.take(), &here, problems);
    let ban = action == Action::Ban;
    Some(Limit {
        name,
        scope,
        measure,
        key,
        ipv4_prefix: prefix(raw.ipv4_prefix, 32, 32, problems),
        ipv6_prefix: prefix(raw.ipv6_prefix, 64, 128, problems),
        absent: raw.absent,
        exempt: Exempt {
            networks: list(raw.exempt_networks, "exempt_networks", problems),
            values: list(raw.exempt_values, "exempt_values", problems),
        },
        mode: raw.mode,
        action,
        headers: raw.headers,
        offence_after: raw.offence_after.unwrap_or(if ban { 1 } else { 10 }),
    })
}

fn scope(raw: &mut RawLimit, problems: &mut Problems<'_>) -> Scope {
    let mut methods = list(raw.methods.take(), "methods", problems);
    for method in &mut methods {
        method.make_ascii_uppercase();
    }
    Scope {
        routes: list(raw.routes.take(), "routes", problems),
        hosts: list(raw.hosts.take(), "hosts", problems),
        methods,
    }
}

fn key(raw: Option<Spanned<Vec<KeyPart>>>, problems: &mut Problems<'_>) -> Vec<KeyPart> {
    let Some(parts) = raw else { return vec![KeyPart::Address] };
    let at = parts.span();
    let parts = parts.into_inner();
    if parts.is_empty() || parts.len() > MAX_KEY_PARTS {
        problems.at(
            at.clone(),
            format!("`key` has 1 to {MAX_KEY_PARTS} parts; for everybody together write global."),
        );
    }
    if parts.iter().enumerate().any(|(i, part)| parts[..i].contains(part)) {
        problems.at(at.clone(), "a part stands twice in `key`: leave one out.");
    }
    if parts.len() > 1 && parts.contains(&KeyPart::Global) {
        problems.at(at, "`global` stands for everybody together and takes no other part: leave one out.");
    }
    parts
}

fn measure(
    raw: &mut RawLimit,
    here: &Range<usize>,
    has_redis: bool,
    problems: &mut Problems<'_>,
) -> Option<Measure> {
    if let Some(most) = raw.concurrency.take() {
        let rate_keys = [
            ("quota", raw.quota.is_some()),
            ("window", raw.window.is_some()),
            ("burst", raw.burst.is_some()),
            ("algorithm", raw.algorithm.is_some()),
            ("cost", raw.cost.is_some()),
            ("cost_by_method", raw.cost_by_method.is_some()),
            ("cost_by_status", raw.cost_by_status.is_some()),
            ("cost_header", raw.cost_header.is_some()),
            ("count_status", raw.count_status.is_some()),
        ];
        for (key, _) in rate_keys.into_iter().filter(|(_, set)| *set) {
            let text = format!("`{key}` belongs to a rate, and this is a concurrency limit: leave one out.");
            problems.at(most.span(), text);
        }
        if let Some(store) = raw.store.take().filter(|s| *s.get_ref() == StoreKind::Redis) {
            problems.at(store.span(), "concurrency is counted on each node alone: leave `store` out.");
        }
        return units(Some(most), "concurrency", MAX_QUOTA, problems).map(Measure::Concurrency);
    }
    let (Some(quota), Some(window)) = (raw.quota.take(), raw.window.take()) else {
        problems.at(here.clone(), "the limit needs `quota` and `window`, or `concurrency`.");
        return None;
    };
    let window_at = window.span();
    let window = window.into_inner().0;
    if window < MIN_WINDOW || window > MAX_WINDOW {
        problems.at(window_at, "`window` must be 1s to 30d.");
        return None;
    }
    let quota = units(Some(quota), "quota", MAX_QUOTA, problems)?;
    let algorithm = match raw.algorithm.take().map(Spanned::into_inner) {
        Some(RawAlgorithm::Gcra) => Algorithm::Gcra,
        Some(RawAlgorithm::SlidingWindow | RawAlgorithm::WeightedCounters) | None => Algorithm::SlidingWindow,
    };
    let burst = match raw.burst.take() {
        Some(burst) if algorithm != Algorithm::Gcra => {
            problems
                .at(burst.span(), "`burst` belongs to the algorithm gcra: leave it out, or name that one.");
            quota
        }
        given => units(given, "burst", MAX_QUOTA, problems).unwrap_or(quota),
    };
    let most = if algorithm == Algorithm::Gcra { burst } else { quota };
    let cost = cost(raw, most, problems);
    let store = match raw.store.take() {
        Some(store) if *store.get_ref() == StoreKind::Redis && !has_redis => {
            problems.at(store.span(), "there is no Redis: name one in [limit_store], or write `local`.");
            StoreKind::Local
        }
        Some(store) => store.into_inner(),
        None if has_redis => StoreKind::Redis,
        None => StoreKind::Local,
    };
    let count_status = list(raw.count_status.take(), "count_status", problems);
    Some(Measure::Rate(Rate {
        algorithm,
        quota,
        window,
        burst,
        cost,
        count_status,
        store,
        fallback: raw.fallback,
    }))
}

fn cost(raw: &mut RawLimit, most: u32, problems: &mut Problems<'_>) -> Cost {
    let by_method = raw.cost_by_method.take().map_or_else(Vec::new, |map| {
        let at = map.span();
        let costs = map.into_inner().into_iter();
        costs
            .filter_map(|(method, cost)| {
                let cost = at_most(cost, most, &at, "cost_by_method", problems)?;
                Some((method.to_ascii_uppercase(), cost))
            })
            .collect()
    });
    let by_status = raw.cost_by_status.take().map_or_else(Vec::new, |map| {
        let at = map.span();
        let mut costs: Vec<(StatusRange, u32)> = Vec::new();
        for (status, cost) in map.into_inner() {
            match status.parse() {
                Ok(range) => {
                    costs.extend(at_most(cost, most, &at, "cost_by_status", problems).map(|c| (range, c)));
                }
                Err(message) => problems.at(at.clone(), message),
            }
        }
        // The narrowest range speaks first: 404 before 4xx.
        costs.sort_by_key(|(range, _)| (range.to - range.from, range.from));
        costs
    });
    let header = raw.cost_header.take().map(|name| {
        if http::HeaderName::try_from(name.get_ref().as_str()).is_err() {
            problems.at(name.span(), format!("`{}` is not the name of a header.", name.get_ref()));
        }
        name.into_inner().to_ascii_lowercase()
    });
    Cost { base: units(raw.cost.take(), "cost", most, problems).unwrap_or(1), by_method, by_status, header }
}

fn at_most(cost: u64, most: u32, at: &Range<usize>, key: &str, problems: &mut Problems<'_>) -> Option<u32> {
    let fits = u32::try_from(cost).ok().filter(|c| *c <= most);
    if fits.is_none() {
        problems.at(
            at.clone(),
            format!("`{key}` has {cost}, but a request may cost 0 to {most}, what the limit allows at once."),
        );
    }
    fits
}

fn units(value: Option<Spanned<u64>>, key: &str, most: u32, problems: &mut Problems<'_>) -> Option<u32> {
    let value = value?;
    let checked = u32::try_from(*value.get_ref()).ok().filter(|v| (1..=most).contains(v));
    if checked.is_none() {
        problems.at(value.span(), format!("`{key}` must be 1 to {most}."));
    }
    checked
}

fn action(
    raw: RawAction,
    delay_max: Option<Spanned<Span>>,
    here: &Range<usize>,
    problems: &mut Problems<'_>,
) -> Action {
    match (raw, delay_max) {
        (RawAction::Delay, Some(most)) => {
            let wait = most.get_ref().0;
            if wait.is_zero() || wait > MAX_DELAY {
                problems.at(most.span(), "`delay_max` must be 1ms to 10s.");
            }
            Action::Delay(wait)
        }
        (RawAction::Delay, None) => {
            problems.at(here.clone(), "the action `delay` needs `delay_max`, 1ms to 10s.");
            Action::Delay(Duration::ZERO)
        }
        (other, given) => {
            if let Some(most) = given {
                problems.at(most.span(), "`delay_max` belongs to the action `delay`: leave it out.");
            }
            match other {
                RawAction::Challenge => Action::Challenge,
                RawAction::Ban => Action::Ban,
                RawAction::Refuse | RawAction::Delay => Action::Refuse,
            }
        }
    }
}

fn prefix(value: Option<Spanned<u8>>, default: u8, longest: u8, problems: &mut Problems<'_>) -> u8 {
    let Some(value) = value else { return default };
    if !(1..=longest).contains(value.get_ref()) {
        problems.at(value.span(), format!("a prefix length here is 1 to {longest}."));
    }
    value.into_inner().min(longest)
}

fn list<T>(value: Option<Spanned<Vec<T>>>, key: &str, problems: &mut Problems<'_>) -> Vec<T> {
    let Some(value) = value else { return Vec::new() };
    if value.get_ref().len() > MAX_LIST {
        problems.at(value.span(), format!("`{key}` holds at most {MAX_LIST} entries."));
    }
    value.into_inner()
}
