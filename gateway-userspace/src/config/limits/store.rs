//! `[limit_store]`: where counters live.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::{Base, Problems, Size, Span};

/// Least memory of the local store.
pub const MIN_BYTES: u64 = 1 << 20;
/// Most memory of the local store: 64 GiB.
pub const MAX_BYTES: u64 = 64 << 30;
/// Most Redis addresses.
pub const MAX_ADDRESSES: usize = 64;
/// Most gateways that share limits.
pub const MAX_NODES: u32 = 1024;

/// `[limit_store]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStore {
    memory: Option<Spanned<Size>>,
    redis: Option<Spanned<Vec<String>>>,
    kind: Option<RawKind>,
    master: Option<Spanned<String>>,
    username: Option<String>,
    password_file: Option<String>,
    sentinel_username: Option<String>,
    sentinel_password_file: Option<String>,
    database: Option<Spanned<i64>>,
    prefix: Option<Spanned<String>>,
    nodes: Option<Spanned<u32>>,
    deadline: Option<Spanned<Span>>,
    connections: Option<Spanned<u8>>,
    breaker_failures: Option<Spanned<u32>>,
    breaker_probe: Option<Spanned<Span>>,
    tls: Option<Spanned<RawTls>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "secrets are named as files, never inline")]
struct RawTls {
    ca_file: Option<String>,
    certificate_file: Option<String>,
    key_file: Option<String>,
}

/// Where counters live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitStore {
    /// Most memory for counters in this process, in bytes; 1 MiB to 64 GiB, default 128 MiB. Every store in the
    /// process (local counters, and what this node knows of the counters in Redis) has this bound of its own.
    pub memory: u64,
    /// The shared store, if there is one.
    pub redis: Option<RedisStore>,
}

/// A shared store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisStore {
    /// `host:port` each; for [`RedisKind::Single`] one, for a Cluster some of its nodes, for Sentinel the sentinels.
    /// 1 to [`MAX_ADDRESSES`].
    pub addresses: Vec<(String, u16)>,
    /// What stands there; default single.
    pub kind: RedisKind,
    /// The ACL user; default none.
    pub username: Option<String>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The sentinels' ACL user; default none.
    pub sentinel_username: Option<String>,
    /// A file with the sentinels' password.
    pub sentinel_password_file: Option<PathBuf>,
    /// The database; 0 to 1023, default 0 (a Cluster has only 0).
    pub database: i64,
    /// What every key begins with; 1 to 32 letters, digits, `-` and `_`; default `rl`.
    pub prefix: String,
    /// How many gateways share the limits; 1 to [`MAX_NODES`], default 1. With `fallback = "local"` a node admits
    /// quota / nodes by itself while Redis cannot be asked.
    pub nodes: u32,
    /// Longest that a request waits for Redis, 1ms to 1s, default 5ms.
    pub deadline: Duration,
    /// Connections to each server; 1 to 16, default 2. A Cluster's client keeps one to each node.
    pub connections: u8,
    /// Failures in a row that open the breaker; 1 to 1000, default 5.
    pub breaker_failures: u32,
    /// Time between probes while the breaker is open; 100ms to 60s, default 1s.
    pub breaker_probe: Duration,
    /// TLS, if it is used.
    pub tls: Option<RedisTls>,
}

/// What stands at the addresses of a Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Single,
    /// Sentinels that know the master of this name.
    Sentinel {
        /// The name.
        master: String,
    },
    /// Nodes of a Redis Cluster.
    Cluster,
}

/// TLS towards Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTls {
    /// PEM file of the certificates to trust; none: those of the web.
    pub ca_file: Option<PathBuf>,
    /// PEM files of this client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

pub(super) fn check(raw: RawStore, base: &Base, problems: &mut Problems<'_>) -> LimitStore {
    let memory = raw.memory.as_ref().map_or(128 << 20, |memory| {
        let bytes = memory.get_ref().0;
        if !(MIN_BYTES..=MAX_BYTES).contains(&bytes) {
            problems.at(memory.span(), "`memory` must be 1MiB to 64GiB.");
        }
        bytes.clamp(MIN_BYTES, MAX_BYTES)
    });
    LimitStore { memory, redis: redis(raw, base, problems) }
}

fn redis(raw: RawStore, base: &Base, problems: &mut Problems<'_>) -> Option<RedisStore> {
    let Some(list) = raw.redis else {
        if raw.kind.is_some() || raw.master.is_some() || raw.tls.is_some() || raw.password_file.is_some() {
            problems.whole("[limit_store] tells of a Redis but names none: add `redis = [\"host:6379\"]`.");
        }
        return None;
    };
    let at = list.span();
    let mut addresses = Vec::new();
    for text in list.get_ref() {
        match address(text) {
            Some(address) => addresses.push(address),
            None => problems.at(at.clone(), format!("`{text}` is not an address: write host:port.")),
        }
    }
    let kind = raw.kind.unwrap_or_default();
    let most = if kind == RawKind::Single { 1 } else { MAX_ADDRESSES };
    if list.get_ref().is_empty() || list.get_ref().len() > most {
        problems.at(at.clone(), format!("`redis` names 1 to {most} addresses with this `kind`."));
    }
    let kind = match (kind, raw.master) {
        (RawKind::Sentinel, Some(master)) => RedisKind::Sentinel { master: master.into_inner() },
        (RawKind::Sentinel, None) => {
            problems.at(at, "`kind = \"sentinel\"` needs `master`, the name that the sentinels know it by.");
            return None;
        }
        (other, master) => {
            if let Some(master) = master {
                problems.at(master.span(), "`master` belongs to `kind = \"sentinel\"`: leave it out.");
            }
            if other == RawKind::Cluster { RedisKind::Cluster } else { RedisKind::Single }
        }
    };
    let prefix = raw.prefix.map_or_else(
        || "rl".to_owned(),
        |prefix| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if !(1..=32).contains(&prefix.get_ref().len()) || !prefix.get_ref().chars().all(plain) {
                problems.at(prefix.span(), "`prefix` has 1 to 32 letters, digits, dashes and underscores.");
            }
            prefix.into_inner()
        },
    );
    let database = bounded(raw.database, 0, (0, 1023), "database", problems);
    if database != 0 && kind == RedisKind::Cluster {
        problems.whole("a Redis Cluster has only database 0: leave `database` out of [limit_store].");
    }
    Some(RedisStore {
        addresses,
        kind,
        username: raw.username,
        password_file: raw.password_file.map(|p| base.path(&p)),
        sentinel_username: raw.sentinel_username,
        sentinel_password_file: raw.sentinel_password_file.map(|p| base.path(&p)),
        database,
        prefix,
        nodes: bounded(raw.nodes, 1, (1, MAX_NODES), "nodes", problems),
        deadline: span(raw.deadline, 5, (1, 1_000), "`deadline` must be 1ms to 1s.", problems),
        connections: bounded(raw.connections, 2, (1, 16), "connections", problems),
        breaker_failures: bounded(raw.breaker_failures, 5, (1, 1000), "breaker_failures", problems),
        breaker_probe: span(
            raw.breaker_probe,
            1_000,
            (100, 60_000),
            "`breaker_probe` must be 100ms to 60s.",
            problems,
        ),
        tls: raw.tls.map(|tls| check_tls(tls, base, problems)),
    })
}

fn check_tls(tls: Spanned<RawTls>, base: &Base, problems: &mut Problems<'_>) -> RedisTls {
    let at = tls.span();
    let tls = tls.into_inner();
    let client = match (tls.certificate_file, tls.key_file) {
        (Some(certificate), Some(key)) => Some((base.path(&certificate), base.path(&key))),
        (None, None) => None,
        _ => {
            problems.at(at, "`certificate_file` and `key_file` come together: give both or neither.");
            None
        }
    };
    RedisTls { ca_file: tls.ca_file.map(|p| base.path(&p)), client }
}

/// `host:port`, with an IPv6 address in brackets.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or_else(|| {
        // A bare IPv6 address is ambiguous: its last group would be taken for the port.
        if host.contains(':') { "" } else { host }
    });
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let port = port.parse().ok().filter(|p| *p != 0)?;
    (!host.is_empty() && host.chars().all(plain)).then(|| (host.to_owned(), port))
}

fn bounded<T: PartialOrd + Copy + std::fmt::Display>(
    value: Option<Spanned<T>>,
    default: T,
    (least, most): (T, T),
    key: &str,
    problems: &mut Problems<'_>,
) -> T {
    let Some(value) = value else { return default };
    if *value.get_ref() < least || *value.get_ref() > most {
        problems.at(value.span(), format!("`{key}` must be {least} to {most}."));
        return default;
    }
    value.into_inner()
}

fn span(
    value: Option<Spanned<Span>>,
    default_ms: u64,
    (least_ms, most_ms): (u64, u64),
    message: &str,
    problems: &mut Problems<'_>,
) -> Duration {
    let Some(value) = value else { return Duration::from_millis(default_ms) };
    let given = value.get_ref().0;
    if given < Duration::from_millis(least_ms) || given > Duration::from_millis(most_ms) {
        problems.at(value.span(), message);
    }
    given
}
