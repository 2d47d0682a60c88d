//! `[bans]`: offences, scenarios, the ledger. docs/configuration/bans.md is the reference.

mod cluster;
mod crowdsec;
mod feed;
mod offences;
mod scenario;
mod terms;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

pub use cluster::{Cluster, RawCluster};
pub use crowdsec::{CrowdSec, Identity, RawCrowdSec, Report};
pub use feed::{Feed, Format, Geo, RawFeed, RawGeo, Signed, Source};
pub use offences::{Offences, RawOffences};
pub use scenario::{RawScenario, Scenario, defaults};
pub use terms::{Action, By, OffenceKind};

use super::{Base, Problems, Span};
use crate::client::IpNetwork;

/// Most decisions that hold at once that the configuration may allow.
pub const MAX_DECISIONS: usize = 2_000_000;
/// Most buckets that the configuration may allow.
pub const MAX_BUCKETS: usize = 4_000_000;
/// Most management sources.
pub const MAX_MANAGEMENT: usize = 256;
/// Longest ban after escalation, longest memory, longest retention.
pub const MAX_TIME: Duration = Duration::from_hours(24 * 366);

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    enabled: bool,
    database: Option<String>,
    max_decisions: Option<Spanned<usize>>,
    max_buckets: Option<Spanned<usize>>,
    widest_v4: Option<Spanned<u8>>,
    widest_v6: Option<Spanned<u8>>,
    management: Option<Spanned<Vec<IpNetwork>>>,
    default_scenarios: bool,
    challenge_path: Option<Spanned<String>>,
    offences: RawOffences,
    scenarios: Vec<RawScenario>,
    escalation: RawEscalation,
    neighbours: RawNeighbours,
    retain: Option<Spanned<Span>>,
    anonymise_after: Option<Spanned<Span>>,
    cluster: Option<RawCluster>,
    crowdsec: Option<RawCrowdSec>,
    feeds: Vec<RawFeed>,
    geo: RawGeo,
}

impl Raw {
    /// Where `max_decisions` is written.
    pub(super) fn max_decisions_at(&self) -> Option<std::ops::Range<usize>> {
        self.max_decisions.as_ref().map(Spanned::span)
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            enabled: true,
            database: None,
            max_decisions: None,
            max_buckets: None,
            widest_v4: None,
            widest_v6: None,
            management: None,
            default_scenarios: true,
            challenge_path: None,
            offences: RawOffences::default(),
            scenarios: Vec::new(),
            escalation: RawEscalation::default(),
            neighbours: RawNeighbours::default(),
            retain: None,
            anonymise_after: None,
            cluster: None,
            crowdsec: None,
            feeds: Vec::new(),
            geo: RawGeo::default(),
        }
    }
}

/// `[bans.escalation]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawEscalation {
    factor: Option<Spanned<u32>>,
    maximum: Option<Spanned<Span>>,
    memory: Option<Spanned<Span>>,
}

/// `[bans.neighbours]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawNeighbours {
    enabled: bool,
    clients: Option<Spanned<u32>>,
    v4: Option<Spanned<u8>>,
    v6: Option<Spanned<u8>>,
    length: Option<Spanned<Span>>,
}

impl Default for RawNeighbours {
    fn default() -> Self {
        Self { enabled: true, clients: None, v4: None, v6: None, length: None }
    }
}

/// Offences, scenarios, the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bans {
    /// Whether offences are judged at all; default yes.
    pub enabled: bool,
    /// The file that decisions are kept in.
    pub database: Database,
    /// Most decisions that hold at once; default 200,000, 1 to [`MAX_DECISIONS`]. At the bound the
    /// automatic decision with the least time left makes room.
    pub max_decisions: usize,
    /// Most buckets of all scenarios together; default 262,144, 64 to [`MAX_BUCKETS`]. At the bound
    /// the emptiest of a few makes room.
    pub max_buckets: usize,
    /// Shortest prefix of an IPv4 ban, in bits; default 20, 1 to 32.
    pub widest_v4: u8,
    /// Shortest prefix of an IPv6 ban, in bits; default 40, 1 to 128.
    pub widest_v6: u8,
    /// Where operators come from: never banned; at most [`MAX_MANAGEMENT`].
    pub management: Vec<IpNetwork>,
    /// Where a client under the action `challenge` is sent, and may ask for what lies below; default none: it is
    /// refused. From 2 to 256 bytes, from `/` on.
    pub challenge_path: Option<Arc<str>>,
    /// What of a request's end counts.
    pub offences: Offences,
    /// The default scenarios and those of the file.
    pub scenarios: Vec<Scenario>,
    /// How bans grow.
    pub escalation: Escalation,
    /// When a neighbourhood is banned whole; none: never.
    pub neighbours: Option<Neighbours>,
    /// How long ended decisions are kept; default 30 d, at least the memory of escalation, at most 366 d.
    pub retain: Duration,
    /// When ended decisions lose their address: it becomes its /24 or /48, and the request ids go; default and
    /// least the memory of escalation, at most 366 d.
    pub anonymise_after: Duration,
    /// Decisions shared with other nodes; default none.
    pub cluster: Option<Cluster>,
    /// Decisions of a CrowdSec local API; default none.
    pub crowdsec: Option<CrowdSec>,
    /// Lists of networks; default none.
    pub feeds: Vec<Feed>,
    /// Databases of countries and autonomous systems; default none.
    pub geo: Geo,
}

/// Where decisions outlive the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Database {
    /// Nothing is written: `bans.redb` in the folder that the service manager gives for state, and where it gives none
    /// nowhere: decisions end with the process.
    #[default]
    Default,
    /// `database = ""`: nowhere.
    Nowhere,
    /// This file.
    File(PathBuf),
}

impl Database {
    /// The file, with the folder for state that the service manager gave, if it did.
    pub fn file(&self, state: Option<&std::path::Path>) -> Option<PathBuf> {
        match self {
            Self::Default => state.map(|folder| folder.join("bans.redb")),
            Self::Nowhere => None,
            Self::File(file) => Some(file.clone()),
        }
    }
}

/// How bans grow from one to the next: `length * factor^earlier`, at most `maximum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// Default 4; 1 (no growth) to 100.
    pub factor: u32,
    /// Default 7 d; 1 s to 366 d.
    pub maximum: Duration,
    /// How long an ended ban counts; default 14 d, at most 366 d.
    pub memory: Duration,
}

/// When a neighbourhood is banned whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// Clients of it that must be banned at the same time; default 16, 2 to 256.
    pub clients: u32,
    /// The neighbourhood's prefix in IPv4; default 24, `widest_v4` to 31.
    pub v4: u8,
    /// The neighbourhood's prefix in IPv6; default 48, `widest_v6` to 63.
    pub v6: u8,
    /// For how long, the first time; default 10 min.
    pub length: Duration,
}

/// Whether a text can name a scenario, a feed or a node.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The value, or the default; out of its range it is a problem.
fn within<T: PartialOrd + Copy + std::fmt::Display>(
    value: Option<Spanned<T>>,
    default: T,
    range: std::ops::RangeInclusive<T>,
    name: &str,
    problems: &mut Problems<'_>,
) -> T {
    let Some(value) = value else { return default };
    if !range.contains(value.get_ref()) {
        problems.at(
            value.span(),
            format!("`{name}` is from {} to {}; default {default}.", range.start(), range.end()),
        );
    }
    *value.get_ref()
}

/// As [`within`], of a duration from `least` to `most`, which are told as `bounds`.
fn lasting(
    value: Option<Spanned<Span>>,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
    sentence: &str,
    problems: &mut Problems<'_>,
) -> Duration {
    let Some(value) = value else { return default };
    if !range.contains(&value.get_ref().0) {
        problems.at(value.span(), sentence);
    }
    value.get_ref().0
}

pub(super) fn check(raw: Raw, base: &Base, problems: &mut Problems<'_>) -> Bans {
    const DAY: Duration = Duration::from_hours(24);
    let widest_v4 = within(raw.widest_v4, 20, 1..=32, "widest_v4", problems);
    let widest_v6 = within(raw.widest_v6, 40, 1..=128, "widest_v6", problems);
    let management = raw.management.map_or_else(Vec::new, |list| {
        if list.get_ref().len() > MAX_MANAGEMENT {
            problems.at(list.span(), format!("`management` holds at most {MAX_MANAGEMENT} networks."));
        }
        list.into_inner()
    });
    let escalation = Escalation {
        factor: within(raw.escalation.factor, 4, 1..=100, "factor", problems),
        maximum: lasting(
            raw.escalation.maximum,
            DAY * 7,
            Duration::from_secs(1)..=MAX_TIME,
            "`maximum`, the longest automatic ban, is from 1s to 366d.",
            problems,
        ),
        memory: lasting(
            raw.escalation.memory,
            DAY * 14,
            Duration::ZERO..=MAX_TIME,
            "`memory`, how long an ended ban makes the next one longer, is at most 366d.",
            problems,
        ),
    };
    let retain_at = raw.retain.as_ref().map(Spanned::span);
    let retain = lasting(
        raw.retain,
        (DAY * 30).max(escalation.memory),
        Duration::ZERO..=MAX_TIME,
        "`retain`, how long ended decisions are kept, is at most 366d.",
        problems,
    );
    if let Some(span) = retain_at.filter(|_| retain < escalation.memory) {
        problems.at(
            span,
            "`retain` is shorter than `escalation.memory`: what is forgotten can't escalate. Raise it, or lower the memory.",
        );
    }
    let anonymise_at = raw.anonymise_after.as_ref().map(Spanned::span);
    let anonymise_after = lasting(
        raw.anonymise_after,
        escalation.memory,
        Duration::ZERO..=MAX_TIME,
        "`anonymise_after`, when ended decisions lose their address, is at most 366d.",
        problems,
    );
    if let Some(span) = anonymise_at.filter(|_| anonymise_after < escalation.memory) {
        problems.at(
            span,
            "`anonymise_after` is shorter than `escalation.memory`: who has no name can't escalate. Raise it, or lower the memory.",
        );
    }
    Bans {
        enabled: raw.enabled,
        database: match raw.database.as_deref() {
            None => Database::Default,
            Some("") => Database::Nowhere,
            Some(path) => Database::File(base.path(path)),
        },
        max_decisions: within(raw.max_decisions, 200_000, 1..=MAX_DECISIONS, "max_decisions", problems),
        max_buckets: within(raw.max_buckets, 262_144, 64..=MAX_BUCKETS, "max_buckets", problems),
        widest_v4,
        widest_v6,
        management,
        challenge_path: raw.challenge_path.map(|path| challenge_path(path, problems)),
        offences: offences::check(raw.offences, problems),
        scenarios: scenario::check(raw.scenarios, raw.default_scenarios, problems),
        escalation,
        neighbours: neighbours(raw.neighbours, (widest_v4, widest_v6), problems),
        retain,
        anonymise_after,
        cluster: raw.cluster.map(|c| cluster::check(c, base, problems)),
        crowdsec: raw.crowdsec.map(|c| crowdsec::check(c, base, problems)),
        feeds: feed::check(raw.feeds, base, problems),
        geo: feed::check_geo(raw.geo, base),
    }
}

fn challenge_path(path: Spanned<String>, problems: &mut Problems<'_>) -> Arc<str> {
    let text = path.get_ref();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    if !(2..=256).contains(&text.len()) || !text.starts_with('/') || !text.bytes().all(is_plain) {
        problems.at(
            path.span(),
            "`challenge_path` is a path of 2 to 256 letters, digits or -._~ that begins with a slash, such as /challenge.",
        );
    }
    path.into_inner().into()
}

fn neighbours(raw: RawNeighbours, widest: (u8, u8), problems: &mut Problems<'_>) -> Option<Neighbours> {
    let narrowest = |widest: u8, most: u8, usual: u8| usual.max(widest).min(most);
    let neighbours = Neighbours {
        clients: within(raw.clients, 16, 2..=256, "clients", problems),
        v4: within(raw.v4, narrowest(widest.0, 31, 24), widest.0.min(31)..=31, "v4", problems),
        v6: within(raw.v6, narrowest(widest.1, 63, 48), widest.1.min(63)..=63, "v6", problems),
        length: lasting(
            raw.length,
            Duration::from_mins(10),
            Duration::from_secs(1)..=MAX_TIME,
            "`length`, a neighbourhood's first ban, is from 1s to 366d.",
            problems,
        ),
    };
    // With a bound narrower than any neighbourhood no such ban is possible.
    (raw.enabled && (widest.0 <= 31 || widest.1 <= 63)).then_some(neighbours)
}

#[cfg(test)]
mod tests;
