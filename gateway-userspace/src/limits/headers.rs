//! How limits are told to clients: draft-ietf-httpapi-ratelimit-headers-11, `Retry-After` (RFC 9110, section
//! 10.2.3), and the older `X-RateLimit-*`.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use super::decision::{Permit, Refusal, Report, Standing};
use super::policy::{Kind, Limit};
use super::slot::SECOND;
use super::window::Nanos;
use crate::config::limits::Headers;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Header lines to add to an answer.
pub type Pairs = SmallVec<[(HeaderName, HeaderValue); 6]>;

impl Permit {
    /// The headers that tell the client how its limits stand; none where no limit is told.
    pub fn headers(&self) -> Pairs {
        self.standing().headers()
    }
}

impl Refusal {
    /// The same for a refused request, with `Retry-After`.
    pub fn headers(&self) -> Pairs {
        let mut pairs = self.standing().headers();
        let seconds = whole_seconds(self.retry_after).max(1);
        pairs.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
        pairs
    }

    /// The body of the answer: an RFC 9457 problem that names the limit.
    pub fn problem(&self) -> String {
        // The name has only letters, digits, `-`, `_` and `.`.
        format!(
            "{{\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"limit\":\"{}\",\
             \"retry_after\":{}}}",
            self.limit,
            whole_seconds(self.retry_after).max(1)
        )
    }
}

impl Standing {
    fn headers(&self) -> Pairs {
        let told = || {
            let known = self.reports.iter().filter_map(|r| Some((r, self.limit(r.index)?)));
            known.filter(|(_, limit)| limit.config.headers != Headers::None && !limit.is_shadow())
        };
        let mut pairs = Pairs::new();
        if told().next().is_none() {
            return pairs;
        }
        let (mut policies, mut standings) = (String::with_capacity(64), String::with_capacity(64));
        for (report, limit) in told() {
            if !policies.is_empty() {
                policies.push_str(", ");
                standings.push_str(", ");
            }
            policies.push_str(&limit.policy_item);
            // Writing to a String cannot fail.
            let _ = match &limit.kind {
                Kind::Rate(_) => {
                    let t = report.reset.div_ceil(SECOND);
                    write!(standings, "\"{}\";r={};t={t}", limit.name, report.remaining)
                }
                Kind::Concurrency(_) => write!(standings, "\"{}\";r={}", limit.name, report.remaining),
            };
        }
        for (name, text) in [(POLICY, policies), (LIMIT, standings)] {
            pairs.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
        }
        // The old triple has room for one limit: the one with the least left.
        let legacy = told().filter(|(_, limit)| limit.config.headers == Headers::Both);
        if let Some((report, limit)) = legacy.min_by_key(|(report, limit)| fraction(report, limit)) {
            pairs.push((X_LIMIT, HeaderValue::from(limit.quota())));
            pairs.push((X_REMAINING, HeaderValue::from(report.remaining)));
            pairs.push((X_RESET, HeaderValue::from(report.reset.div_ceil(SECOND))));
        }
        pairs
    }
}

impl Limit {
    /// The quota, or how many requests there may be at a time.
    pub fn quota(&self) -> u32 {
        match &self.kind {
            Kind::Rate(rate) => rate.rule.quota(),
            Kind::Concurrency(most) => *most,
        }
    }
}

fn fraction(report: &Report, limit: &Limit) -> u64 {
    (u64::from(report.remaining) << 32) / u64::from(limit.quota().max(1))
}

fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_nanos() as Nanos).div_ceil(SECOND)
}
