//! `limits test`: who a policy would have refused, from an access log.
//!
//! Lines are this gateway's JSON access log, or the combined format of Apache and nginx. A log has no request
//! headers but the few it names, so a limit keyed on others falls back as its `absent` says; all limits are
//! counted as if kept in one place.

use std::collections::HashMap;
use std::io::BufRead;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};

use super::decision::Decision;
use super::limiter::{Check, Limiter};
use super::request::{LimitRequest, Outcome};
use super::window::Nanos;
use crate::client::ClientId;
use crate::config::limits::{Action, Limits, Measure, StoreKind};

/// Longest line that is read, in bytes; a longer one counts as unreadable.
pub const MAX_LINE: usize = 64 << 10;
/// Clients that are counted by name; refusals of further ones count in the sums alone.
pub const MAX_CLIENTS: usize = 100_000;
/// Clients named in the report for each limit.
const NAMED: usize = 10;

/// What would have happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// Requests read.
    pub requests: u64,
    /// Lines that are no access log's.
    pub unreadable: u64,
    /// Requests refused.
    pub refused: u64,
    /// By limit, most refusals first.
    pub limits: Vec<Refused>,
}

/// One limit's refusals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The limit.
    pub limit: String,
    /// Requests refused.
    pub refused: u64,
    /// Clients that were refused most, with the number.
    pub clients: Vec<(IpAddr, u64)>,
}

/// One request of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    at: Nanos,
    client: IpAddr,
    route: String,
    host: String,
    method: Method,
    target: String,
    status: u16,
    ja4: Option<String>,
    user_agent: Option<String>,
    referer: Option<String>,
}

/// Runs `limits` over the lines of a log in the order they stand.
///
/// # Errors
/// When the log cannot be read.
pub fn dry_run(limits: &Limits, log: &mut dyn BufRead) -> std::io::Result<DryRun> {
    let limiter = Limiter::new(&all_local(limits), [0x6761_7465, 0x7761_7900]);
    let mut run = DryRun::default();
    let mut refused: HashMap<String, (u64, HashMap<IpAddr, u64>)> = HashMap::new();
    let mut line = Vec::new();
    while read_line(log, &mut line)? {
        let Some(entry) = std::str::from_utf8(&line).ok().and_then(Entry::parse) else {
            run.unreadable += u64::from(!line.trim_ascii().is_empty());
            continue;
        };
        run.requests += 1;
        if let Some(limit) = ask(&limiter, &entry) {
            run.refused += 1;
            let (sum, clients) = refused.entry(limit).or_default();
            *sum += 1;
            if clients.len() < MAX_CLIENTS || clients.contains_key(&entry.client) {
                *clients.entry(entry.client).or_default() += 1;
            }
        }
    }
    run.limits = refused
        .into_iter()
        .map(|(limit, (refused, clients))| {
            let mut clients: Vec<(IpAddr, u64)> = clients.into_iter().collect();
            clients.sort_by_key(|(addr, count)| (std::cmp::Reverse(*count), *addr));
            clients.truncate(NAMED);
            Refused { limit, refused, clients }
        })
        .collect();
    run.limits.sort_by(|a, b| b.refused.cmp(&a.refused).then_with(|| a.limit.cmp(&b.limit)));
    Ok(run)
}

/// The name of the limit that refuses.
fn ask(limiter: &Limiter, entry: &Entry) -> Option<String> {
    let mut headers = HeaderMap::new();
    let named: [(HeaderName, &Option<String>); 2] =
        [(header::USER_AGENT, &entry.user_agent), (header::REFERER, &entry.referer)];
    for (name, value) in named {
        headers.extend(value.as_ref().and_then(|v| HeaderValue::try_from(v).ok()).map(|v| (name, v)));
    }
    let (path, query) = match entry.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (entry.target.as_str(), None),
    };
    let request = LimitRequest {
        route: &entry.route,
        host: &entry.host,
        method: &entry.method,
        path,
        query,
        ja4: entry.ja4.as_deref(),
        ..LimitRequest::of(ClientId::direct(entry.client), &headers, entry.at)
    };
    match limiter.check(&request) {
        Check::Done(Decision::Allowed(permit)) => {
            permit.settle(&Outcome { status: entry.status, headers: &HeaderMap::new() }, entry.at);
            None
        }
        Check::Done(Decision::Refused(refusal)) => Some(refusal.limit.to_string()),
        // Nothing is asked in Redis and nothing held back here: `all_local` saw to it.
        Check::Pending(_) => None,
    }
}

/// The same limits, all counted here; what would have been held back is refused.
fn all_local(limits: &Limits) -> Limits {
    let mut limits = limits.clone();
    limits.store.redis = None;
    for limit in &mut limits.limits {
        if let Measure::Rate(rate) = &mut limit.measure {
            rate.store = StoreKind::Local;
        }
        if let Action::Delay(_) = limit.action {
            limit.action = Action::Refuse;
        }
    }
    limits
}

/// Reads a line without its end; one that is too long is left empty, and the rest of it skipped.
fn read_line(log: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let chunk = log.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        if line.len() + part.len() <= MAX_LINE {
            line.extend_from_slice(part);
        }
        let used = end.map_or(chunk.len(), |at| at + 1);
        log.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// This gateway's access log, as far as limits look at it.
#[derive(Deserialize)]
struct Json {
    time: String,
    client: IpAddr,
    route: Option<String>,
    method: Option<String>,
    host: Option<String>,
    target: Option<String>,
    status: u16,
    ja4: Option<String>,
    user_agent: Option<String>,
    referer: Option<String>,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with('{') { Self::json(line) } else { Self::combined(line) }
    }

    fn json(line: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(line).ok()?;
        Some(Self {
            at: rfc3339(&json.time)?,
            client: json.client,
            route: json.route.unwrap_or_default(),
            host: json.host.unwrap_or_default(),
            method: Method::from_bytes(json.method.unwrap_or_default().as_bytes()).ok()?,
            target: json.target.unwrap_or_default(),
            status: json.status,
            ja4: json.ja4,
            user_agent: json.user_agent,
            referer: json.referer,
        })
    }

    /// `client - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 2326 "referer" "user agent"`.
    fn combined(line: &str) -> Option<Self> {
        let (client, rest) = line.split_once(' ')?;
        let (_, rest) = rest.split_once('[')?;
        let (time, rest) = rest.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut request = request.split(' ');
        let status = rest.split(' ').next()?;
        let mut quoted = rest.split('"').skip(1).step_by(2);
        let mut text = || quoted.next().filter(|t| *t != "-").map(str::to_owned);
        let (referer, user_agent) = (text(), text());
        Some(Self {
            at: combined_time(time)?,
            client: client.parse().ok()?,
            route: String::new(),
            host: String::new(),
            method: Method::from_bytes(request.next()?.as_bytes()).ok()?,
            target: request.next()?.to_owned(),
            status: status.parse().ok()?,
            ja4: None,
            user_agent,
            referer,
        })
    }
}

/// `2026-11-21T03:50:10.123Z`.
fn rfc3339(text: &str) -> Option<Nanos> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|n| n.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let fraction = fraction.get(..fraction.len().min(9))?;
    let nanos = fraction.parse::<u64>().ok()? * 10_u64.pow(9 - fraction.len() as u32);
    moment(year, month, day, clock, 0).map(|at| at + nanos)
}

/// `10/Oct/2000:13:55:36 -0700`.
fn combined_time(text: &str) -> Option<Nanos> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (stamp, zone) = text.split_once(' ')?;
    let (date, clock) = stamp.split_once(':')?;
    let mut date = date.splitn(3, '/');
    let day = date.next()?.parse().ok()?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as i64 + 1;
    let zone: i64 = zone.parse().ok()?;
    moment(date.next()?.parse().ok()?, month, day, clock, (zone / 100 * 60 + zone % 100) * 60)
}

/// A date of the Gregorian calendar and `hh:mm:ss` as time since the Unix epoch; `None` before it.
fn moment(year: i64, month: i64, day: i64, clock: &str, east_s: i64) -> Option<Nanos> {
    let valid = (1970..=2500).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let mut parts = clock.splitn(3, ':').map(|n| n.parse::<i64>().ok().filter(|n| (0..=60).contains(n)));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // Days from civil: years begin in March, so that the leap day is the last of them.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - east_s;
    if valid { u64::try_from(seconds).ok()?.checked_mul(1_000_000_000) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn who_would_have_been_refused() {
        let text = "[[limits]]\nname = \"all\"\nquota = 3\nwindow = \"1m\"\n[[limits]]\nname = \"failed\"\nquota = 1\n\
                    window = \"1h\"\nmethods = [\"POST\"]\ncount_status = [\"401\"]";
        let limits = Config::parse(std::path::Path::new("/g.toml"), text).expect("valid").limits;
        let get = |addr: &str, second: u32| {
            format!(
                "{addr} - - [21/Nov/2026:03:50:{second:02} +0000] \"GET /a?b HTTP/1.1\" 200 5 \"-\" \"curl\"\n"
            )
        };
        let mut log: String = (0..9).map(|s| get("192.0.2.1", s)).collect();
        log += &get("2001:db8::1", 9);
        log += "this is no log\n\n";
        for second in 10..14 {
            let line = format!(
                "{{\"time\":\"2026-11-21T03:51:{second}.250Z\",\"client\":\"192.0.2.2\",\"route\":\"r\",\
                 \"method\":\"POST\",\"host\":\"h\",\"target\":\"/login\",\"status\":401}}\n"
            );
            log += &line;
        }
        let run = dry_run(&limits, &mut log.as_bytes()).expect("readable");
        assert_eq!((run.requests, run.unreadable, run.refused), (14, 1, 9));
        let names: Vec<_> = run.limits.iter().map(|l| (l.limit.as_str(), l.refused)).collect();
        assert_eq!(names, [("all", 6), ("failed", 3)]);
        assert_eq!(run.limits[0].clients, [("192.0.2.1".parse().expect("address"), 6)]);
    }

    #[test]
    fn times() {
        let second = 1_000_000_000;
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600 * second + second / 2)),
            ("2026-11-21T03:50:10.123456789Z", Some(1_795_233_010 * second + 123_456_789)),
            ("2026-11-21 03:50:10", None),
            ("2026-13-21T03:50:10Z", None),
        ] {
            assert_eq!(rfc3339(text), expected, "{text}");
        }
        assert_eq!(combined_time("10/Oct/2000:13:55:36 -0700"), Some(971_211_336 * second));
        assert_eq!(combined_time("10/Oct/2000:13:55:36"), None);
    }
}
