//! Scenarios tried on a recorded access log: who would have been refused, when, why, and how many
//! requests that would have stopped. Pure: lines in, report out; the log's times are the clock.

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::ledger::Change;
use super::traffic::{Rates, Traffic};
use super::{Decision, Engine, Offence, OffenceKind};
use crate::client::ClientId;
use crate::config::bans::{Bans, Offences};

/// Most decisions that a report tells of one by one.
pub const MAX_TOLD: usize = 10_000;

/// What the scenarios would have done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DryRun {
    /// Lines read as requests.
    pub requests: u64,
    /// Lines that are none of the gateway's access log in JSON.
    pub unreadable: u64,
    /// Requests that would have been refused by a decision.
    pub refused: u64,
    /// Of those, requests that were no offences: look at these before enforcing.
    pub refused_clean: u64,
    /// Offences judged, by kind.
    pub offences: BTreeMap<OffenceKind, u64>,
    /// Decisions, the first [`MAX_TOLD`].
    pub decisions: Vec<Arc<Decision>>,
    /// Decisions in all.
    pub decided: u64,
}

/// What is read of a line.
#[derive(Debug, Deserialize)]
struct Line {
    time: String,
    client: IpAddr,
    proxy: Option<IpAddr>,
    request_id: Option<Arc<str>>,
    route: Option<Arc<str>>,
    #[serde(default)]
    target: String,
    status: u16,
    denied: Option<String>,
    #[serde(default)]
    score: u32,
    #[serde(default)]
    rules: Vec<u64>,
    ja4: Option<Arc<str>>,
    asn: Option<u32>,
}

/// Plays the lines of an access log, in their order, through the scenarios of a configuration.
pub fn dry_run(config: &Bans, guard: Guard, lines: impl Iterator<Item = String>) -> DryRun {
    let mut engine = Engine::new(config, guard, 0);
    let traffic = Traffic::new(RandomState::new());
    let mut rates: Option<Rates> = None;
    let mut report = DryRun::default();
    let mut now_ms = 0;
    for line in lines {
        let read = serde_json::from_str::<Line>(&line).ok();
        let Some((line, at_ms)) = read.and_then(|l| rfc3339_ms(&l.time).map(|at| (l, at))) else {
            report.unreadable += 1;
            continue;
        };
        // Workers write their lines in turns: time never goes back by more than a moment.
        now_ms = at_ms.max(now_ms);
        report.requests += 1;
        engine.ledger.expire(now_ms);
        engine.ledger.take_changes();
        let client = match line.proxy {
            Some(proxy) => ClientId::behind(proxy, line.client),
            None => ClientId::direct(line.client),
        };
        let kind = kind_of(&line, &config.offences);
        if engine.ledger.covering(client.addr()).iter().any(|d| d.action > super::Action::Challenge) {
            report.refused += 1;
            report.refused_clean += u64::from(kind.is_none());
            continue;
        }
        let rates = rates.get_or_insert_with(|| Rates::new(&traffic, now_ms));
        rates.turn(&traffic, now_ms);
        traffic.seen(client.addr());
        let Some(kind) = kind else { continue };
        *report.offences.entry(kind).or_default() += 1;
        let asn = line.asn;
        let offence = offence(line, client, kind, now_ms);
        for change in engine.judge(&offence, 1, rates.of(&traffic, client.addr()), asn, now_ms) {
            if let Change::Began(decision) = change {
                report.decided += 1;
                if report.decisions.len() < MAX_TOLD {
                    report.decisions.push(decision);
                }
            }
        }
    }
    report
}

fn offence(line: Line, client: ClientId, kind: OffenceKind, at_ms: u64) -> Offence {
    let mut rules = line.rules;
    rules.truncate(Offence::MAX_RULES);
    Offence {
        at_ms,
        client,
        kind,
        weight: line.score.max(1),
        rules,
        subject: line.route,
        request_id: line.request_id,
        ja4: line.ja4,
    }
}

/// What a request offended by, as far as the log tells.
fn kind_of(line: &Line, counted: &Offences) -> Option<OffenceKind> {
    let path = line.target.split('?').next().unwrap_or_default();
    if line.denied.as_deref() != Some("banned") && counted.is_honeypot(path.as_bytes()) {
        return Some(OffenceKind::Honeypot);
    }
    match (line.denied.as_deref(), line.status) {
        (Some(code), _) if code.starts_with("waf") => Some(OffenceKind::Waf),
        (Some(code), _) if code.ends_with("timeout") => Some(OffenceKind::Slow),
        (Some(_), 429) => Some(OffenceKind::Limit),
        (Some(_), 400 | 431 | 414 | 501 | 505) => Some(OffenceKind::Protocol),
        (Some("no_route"), _) => Some(OffenceKind::NotFound),
        (None, status) if counted.not_found_statuses.contains(&status) => Some(OffenceKind::NotFound),
        (None, status) if counted.authentication_statuses.contains(&status) => {
            let counts = line.route.as_deref().is_some_and(|route| counted.counts_authentication(route));
            counts.then_some(OffenceKind::Authentication)
        }
        _ => None,
    }
}

/// Unix milliseconds of a time such as `2026-11-21T04:31:34.123Z` (RFC 3339, UTC).
pub fn rfc3339_ms(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hour, minute): (i64, i64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let seconds: f64 = time.next()?.parse().ok()?;
    let valid = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..61.0).contains(&seconds);
    if !valid {
        return None;
    }
    // Days since the epoch: years begin in March, so that leap days come last.
    let shifted = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    let whole = (days * 86_400 + hour * 3600 + minute * 60) * 1000;
    u64::try_from(whole).ok().map(|ms| ms + (seconds * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500)),
            ("2026-11-21T04:31:34.123Z", Some(1_795_235_494_123)),
            ("2026-13-21T04:31:34Z", None),
            ("2026-11-21 04:31:34Z", None),
            ("2026-11-21T04:31:34", None),
            ("now", None),
        ] {
            assert_eq!(rfc3339_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_log_tells_who_would_have_been_refused() {
        let config = Config::parse(std::path::Path::new("t"), "").expect("configuration").bans;
        let line = |second: u32, client: &str, status: u16, rest: &str| {
            format!(
                "{{\"time\":\"2026-11-21T04:31:{second:02}.000Z\",\"request_id\":\"r{second}\",\"client\":\"{client}\",\"status\":{status}{rest}}}"
            )
        };
        let waf = ",\"denied\":\"waf\",\"score\":15,\"rules\":[942100]";
        let mut lines: Vec<String> = (0..20).map(|s| line(s, "192.0.2.66", 403, waf)).collect();
        lines.push(line(21, "192.0.2.66", 200, ""));
        lines.extend((22..30).map(|s| line(s, "192.0.2.1", 404, "")));
        lines.push("no line of ours".into());
        let report = dry_run(&config, Guard::new(20, 40), lines.into_iter());
        assert_eq!((report.requests, report.unreadable), (29, 1));
        assert_eq!((report.refused, report.refused_clean), (16, 1));
        assert_eq!(report.decided, 1);
        assert_eq!(&*report.decisions[0].reason, "scenario waf: 5 waf offences in 4 s");
        assert_eq!(report.offences[&OffenceKind::NotFound], 8);
    }
}
