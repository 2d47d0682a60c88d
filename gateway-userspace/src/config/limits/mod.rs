//! `[[limits]]`, `[limit_store]` and `[limit_challenge]`: rate limits, where their counters live, and where clients are challenged.

mod challenge;
mod key;
mod raw;
mod store;

use std::time::Duration;

use super::{Base, Problems};
use crate::client::IpNetwork;

pub use challenge::{Challenge, RawChallenge};
pub use key::{HostPattern, KeyPart, StatusRange};
pub use raw::RawLimit;
pub use store::{LimitStore, RawStore, RedisKind, RedisStore, RedisTls};

/// Most limits in one configuration.
pub const MAX_LIMITS: usize = 64;
/// Most parts of a limit's key.
pub const MAX_KEY_PARTS: usize = 4;
/// Most entries of one list of a limit (routes, hosts, methods, exempt networks and keys, statuses).
pub const MAX_LIST: usize = 1024;
/// Largest quota and burst.
pub const MAX_QUOTA: u32 = 1_000_000_000;
/// Shortest window.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Longest window: 30 days.
pub const MAX_WINDOW: Duration = Duration::from_hours(30 * 24);
/// Longest that a request may be held back.
pub const MAX_DELAY: Duration = Duration::from_secs(10);

/// Rate limits and their stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The limits in the order of the file; at most [`MAX_LIMITS`].
    pub limits: Vec<Limit>,
    /// Where counters live.
    pub store: LimitStore,
    /// Where clients are challenged; there is one where a limit has the action for it.
    pub challenge: Option<Challenge>,
    /// What is good as written, but not what it may be taken for.
    pub notices: Vec<String>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Unique; 1 to 64 of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it applies to.
    pub scope: Scope,
    /// What is counted.
    pub measure: Measure,
    /// What to count by; 1 to [`MAX_KEY_PARTS`] parts, default `["address"]`.
    pub key: Vec<KeyPart>,
    /// How many bits of an IPv4 address tell clients apart; default 32.
    pub ipv4_prefix: u8,
    /// How many bits of an IPv6 address tell clients apart; default 64.
    pub ipv6_prefix: u8,
    /// What to do where the request lacks a part of the key; default `address`.
    pub absent: Absent,
    /// Who is not counted.
    pub exempt: Exempt,
    /// Whether refusals are carried out; default enforce.
    pub mode: LimitMode,
    /// What happens to a request over the limit; default refuse.
    pub action: Action,
    /// How the limit is told to clients; default standard.
    pub headers: Headers,
    /// Refusals of one key within a window after which each further such number is an offence; 0: never.
    /// Default 10; 1 with the action `ban`.
    pub offence_after: u16,
}

/// Which requests a limit applies to: those that fit every list that is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Names of routes.
    pub routes: Vec<String>,
    /// Hosts.
    pub hosts: Vec<HostPattern>,
    /// Methods, in upper case.
    pub methods: Vec<String>,
}

/// What a limit counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// Units in a time.
    Rate(Rate),
    /// Requests at the same time, on this node. 1 to [`MAX_QUOTA`].
    Concurrency(u32),
}

/// Units in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// How the count is kept; default sliding-window.
    pub algorithm: Algorithm,
    /// Units allowed in a window; 1 to [`MAX_QUOTA`].
    pub quota: u32,
    /// The window; [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub window: Duration,
    /// Units allowed at once, for GCRA; 1 to [`MAX_QUOTA`], default the quota.
    pub burst: u32,
    /// What a request costs.
    pub cost: Cost,
    /// If not empty, only answers with these statuses count.
    pub count_status: Vec<StatusRange>,
    /// Where the count is kept; default `redis` where `[limit_store]` names a Redis, else `local`.
    pub store: StoreKind,
    /// What applies while Redis cannot be asked; default local.
    pub fallback: Fallback,
}

/// What a request costs, in units of the quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// For every request not named below; default 1, at most the quota (burst for GCRA).
    pub base: u32,
    /// By method, in upper case.
    pub by_method: Vec<(String, u32)>,
    /// By the status of the answer, first match first: taken after the answer, in place of what the request paid.
    pub by_status: Vec<(StatusRange, u32)>,
    /// The response header, in lower case, that says what the request cost in the end (0 to the quota).
    pub header: Option<String>,
}

/// How a count is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// A log of at most 32 marks: in no stretch of time as long as the window is more than the quota admitted.
    #[default]
    SlidingWindow,
    /// The generic cell rate algorithm: `burst` at once, then evenly spaced at quota a window.
    Gcra,
}

/// Where a count is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In this process.
    Local,
    /// In Redis, with leases on this node.
    Redis,
}

/// What applies while Redis cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// This node's share of the quota: quota / nodes, at least 1.
    #[default]
    Local,
    /// Everything is admitted.
    Open,
    /// Everything is refused.
    Closed,
}

/// What to do where a request lacks a part of the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Absent {
    /// Count by the client's address in place of the whole key.
    #[default]
    Address,
    /// Count all such requests together.
    Shared,
    /// The limit does not apply.
    Skip,
}

/// Who is not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Clients' networks.
    pub networks: Vec<IpNetwork>,
    /// Values of the first part of the key that is not the address, such as API keys of partners.
    pub values: Vec<String>,
}

/// Whether refusals are carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitMode {
    /// Yes.
    #[default]
    Enforce,
    /// No: what would be refused is counted and reported, and passes.
    Shadow,
    /// The limit is not looked at.
    Off,
}

/// What happens to a request over the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// 429.
    #[default]
    Refuse,
    /// It waits until it fits, at most this long ([`MAX_DELAY`]); what would wait longer gets 429.
    Delay(Duration),
    /// Its client is sent to where it is challenged; who has passed has a quota of its own.
    Challenge,
    /// 429, and the first refusal is an offence that asks for a ban.
    Ban,
}

/// How a limit is told to clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Headers {
    /// `RateLimit-Policy`, `RateLimit`, and `Retry-After` on refusals.
    #[default]
    Standard,
    /// Those and `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    Both,
    /// Only `Retry-After`, on refusals.
    None,
}

pub(super) fn check(
    limits: Vec<RawLimit>,
    store: RawStore,
    challenge: RawChallenge,
    base: &Base,
    problems: &mut Problems<'_>,
) -> Limits {
    let store = store::check(store, base, problems);
    if limits.len() > MAX_LIMITS {
        problems.whole(format!("there are {} limits; at most {MAX_LIMITS} can be had.", limits.len()));
    }
    let mut names: Vec<String> = Vec::new();
    let mut notices = Vec::new();
    let limits: Vec<Limit> = limits
        .into_iter()
        .filter_map(|limit| {
            notices.extend(limit.notice());
            raw::check(limit, store.redis.is_some(), &mut names, problems)
        })
        .collect();
    let challenge = challenge::check(challenge, base, problems);
    if challenge.is_none()
        && let Some(limit) = limits.iter().find(|limit| limit.action == Action::Challenge)
    {
        problems.whole(format!(
            "the limit `{}` challenges, but nothing says where: add [limit_challenge] with `location` and `secret_file`.",
            limit.name
        ));
    }
    Limits { limits, store, challenge, notices }
}

#[cfg(test)]
mod tests;
