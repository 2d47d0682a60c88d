//! What a route changes about the rules: `waf_paranoia_level`, `waf_inbound_threshold`, `waf_exclude`.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::Problems;

/// Most different policies of all routes together; routes that say the same share one.
pub const MAX_POLICIES: usize = 64;
/// Most entries of a route's `waf_exclude`.
pub const MAX_EXCLUSIONS: usize = 128;
/// The TX variable by which the rules of a policy know that it is theirs.
pub const POLICY_KEY: &str = "gateway_route_policy";
/// Longest id list, tag or target of an exclusion, in bytes.
const MAX_TEXT: usize = 256;

/// The keys as written.
#[derive(Debug, Default)]
pub struct Raw {
    pub(super) paranoia_level: Option<Spanned<u8>>,
    pub(super) inbound_threshold: Option<Spanned<u32>>,
    pub(super) exclude: Vec<Spanned<RawExclusion>>,
}

/// An entry of `waf_exclude` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawExclusion {
    id: Option<RawId>,
    tag: Option<String>,
    target: Option<String>,
}

/// `942100`, `"942100"`, `"942000-942999"` or several with commas.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawId {
    Number(u64),
    Text(String),
}

/// A place in the configuration.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Which rules an exclusion is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excluded {
    /// Ids and ranges of them, with commas between.
    Ids(String),
    /// Every rule with this tag.
    Tag(String),
}

/// Rules that a route leaves out, or one target of them.
#[derive(Debug, Clone)]
pub struct Exclusion {
    /// The rules.
    pub rules: Excluded,
    /// Only this target (`ARGS:comment`); none: the rules themselves.
    pub target: Option<String>,
    /// Where it is written.
    pub place: Place,
}

impl PartialEq for Exclusion {
    /// The place makes no difference.
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules && self.target == other.target
    }
}

impl Eq for Exclusion {}

/// What a route changes about the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// CRS's paranoia level, 1 to 4.
    pub paranoia_level: Option<u8>,
    /// The anomaly score from which a request is refused, 1 to 100,000.
    pub inbound_threshold: Option<u32>,
    /// At most [`MAX_EXCLUSIONS`].
    pub exclude: Vec<Exclusion>,
}

/// The policies of all routes, each once. A route has the number of its own, from 1; 0 is none.
#[derive(Debug, Default)]
pub struct Policies(Vec<Policy>);

impl Policies {
    /// Checks a route's keys and gives the number of its policy.
    pub(super) fn add(&mut self, raw: Raw, problems: &mut Problems<'_>) -> u32 {
        let first = raw.paranoia_level.as_ref().map(Spanned::span);
        let span = first.or(raw.inbound_threshold.as_ref().map(Spanned::span));
        let span = span.or(raw.exclude.first().map(Spanned::span));
        let Some(span) = span else { return 0 };
        let policy = policy(raw, problems);
        if let Some(at) = self.0.iter().position(|known| *known == policy) {
            return at as u32 + 1;
        }
        if self.0.len() == MAX_POLICIES {
            problems.at(
                span,
                format!(
                    "routes have at most {MAX_POLICIES} different sets of `waf_` keys: let some say the same."
                ),
            );
            return 0;
        }
        self.0.push(policy);
        self.0.len() as u32
    }

    /// In the order of their numbers.
    pub(super) fn into_list(self) -> Vec<Policy> {
        self.0
    }
}

fn policy(raw: Raw, problems: &mut Problems<'_>) -> Policy {
    let paranoia_level = raw.paranoia_level.map(|level| {
        if !(1..=4).contains(level.get_ref()) {
            problems.at(level.span(), "`waf_paranoia_level` must be from 1 to 4.");
        }
        level.into_inner()
    });
    let inbound_threshold = raw.inbound_threshold.map(|threshold| {
        if !(1..=100_000).contains(threshold.get_ref()) {
            problems.at(threshold.span(), "`waf_inbound_threshold` must be from 1 to 100000.");
        }
        threshold.into_inner()
    });
    if let Some(extra) = raw.exclude.get(MAX_EXCLUSIONS) {
        problems.at(extra.span(), format!("`waf_exclude` holds at most {MAX_EXCLUSIONS} entries."));
    }
    let exclude = raw.exclude.into_iter().filter_map(|e| exclusion(e, problems)).collect();
    Policy { paranoia_level, inbound_threshold, exclude }
}

fn exclusion(raw: Spanned<RawExclusion>, problems: &mut Problems<'_>) -> Option<Exclusion> {
    let span = raw.span();
    let place = problems.place(&span);
    let RawExclusion { id, tag, target } = raw.into_inner();
    let rules = match (id, tag) {
        (Some(RawId::Number(id)), None) => Excluded::Ids(id.to_string()),
        (Some(RawId::Text(ids)), None) if are_ids(&ids) => Excluded::Ids(ids.replace(' ', "")),
        (Some(RawId::Text(_)), None) => {
            problems.at(span, "`id` is an id, a range such as \"942000-942999\", or several with commas.");
            return None;
        }
        (None, Some(tag)) if is_plain(&tag) => Excluded::Tag(tag),
        (None, Some(_)) => {
            problems.at(
                span,
                format!("`tag` has 1 to {MAX_TEXT} letters, digits and signs, no quotes or commas."),
            );
            return None;
        }
        _ => {
            problems.at(
                span,
                "an exclusion has either `id` or `tag`, and may have a `target`: { id = 942100, target = \"ARGS:comment\" }.",
            );
            return None;
        }
    };
    if target.as_ref().is_some_and(|target| !is_plain(target) || target.contains('|')) {
        problems.at(span, "`target` is one variable, such as \"ARGS:comment\", without quotes or commas.");
        return None;
    }
    Some(Exclusion { rules, target, place })
}

fn are_ids(text: &str) -> bool {
    let is_id = |id: &str| (1..=18).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit());
    let piece = |piece: &str| match piece.trim().split_once('-') {
        Some((first, last)) => is_id(first) && is_id(last),
        None => is_id(piece.trim()),
    };
    text.len() <= MAX_TEXT && text.split(',').all(piece)
}

/// Whether a text can stand in an action of a rule as it is.
fn is_plain(text: &str) -> bool {
    let plain =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b',' | b';' | b'\\' | b'%' | b'!');
    (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(plain)
}
