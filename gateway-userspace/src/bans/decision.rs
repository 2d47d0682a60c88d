//! A decision: who is refused, where, why, by whom, and until when.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Action, OffenceKind, Scope};

/// Longest reason, in bytes; a longer one is cut.
pub const MAX_REASON_BYTES: usize = 256;
/// Longest name of a node, feed or scenario, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Most request ids that a cause names.
pub const MAX_CAUSE_REQUESTS: usize = 8;
/// Most rule ids that a cause names.
pub const MAX_CAUSE_RULES: usize = 16;

/// A decision's id: 48 bits of Unix milliseconds, 32 of the node, 48 of a counter; unique over all
/// nodes of a cluster and in the order of time. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionId(u128);

impl DecisionId {
    /// The id made at `at_ms` by `node` as its `count`-th.
    pub fn new(at_ms: u64, node: u32, count: u64) -> Self {
        const LOW_48: u64 = (1 << 48) - 1;
        Self(u128::from(at_ms & LOW_48) << 80 | u128::from(node) << 48 | u128::from(count & LOW_48))
    }

    /// The bytes, the most significant first: they sort as the ids do.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id of these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// Who decided. Written as `local`, `operator`, `crowdsec`, `peer:NODE` or `feed:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A scenario on this node.
    Local,
    /// An operator, on this node or another.
    Operator,
    /// A CrowdSec local API.
    CrowdSec,
    /// A scenario on another node of the cluster.
    Peer(Arc<str>),
    /// A list.
    Feed(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Operator => f.write_str("operator"),
            Self::CrowdSec => f.write_str("crowdsec"),
            Self::Peer(node) => write!(f, "peer:{node}"),
            Self::Feed(name) => write!(f, "feed:{name}"),
        }
    }
}

/// A text that is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin: local, operator, crowdsec, peer:NODE or feed:NAME")]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let name = |name: &str| (1..=MAX_NAME_BYTES).contains(&name.len()).then(|| Arc::from(name));
        match text {
            "local" => Some(Self::Local),
            "operator" => Some(Self::Operator),
            "crowdsec" => Some(Self::CrowdSec),
            _ => match text.split_once(':') {
                Some(("peer", node)) => name(node).map(Self::Peer),
                Some(("feed", feed)) => name(feed).map(Self::Feed),
                _ => None,
            },
        }
        .ok_or_else(|| OriginError(text.chars().take(MAX_NAME_BYTES).collect()))
    }
}

/// What led to a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// Offences counted, by kind.
    pub offences: BTreeMap<OffenceKind, u64>,
    /// When the first of them was, in Unix milliseconds.
    pub first_ms: u64,
    /// When the last of them was, in Unix milliseconds.
    pub last_ms: u64,
    /// WAF rules that matched; at most [`MAX_CAUSE_RULES`], the first seen.
    pub rules: Vec<u64>,
    /// Requests that offended; at most [`MAX_CAUSE_REQUESTS`], the last seen.
    pub requests: Vec<Arc<str>>,
    /// The limit's, route's or listener's name of the last offence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// Requests of the client beside the offences, where the scenario asks for a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Arc<str>>,
    /// How the client's trust stood and why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<Arc<str>>,
    /// How many bans of the memory made this one longer.
    pub earlier_bans: u32,
}

/// How a decision ended before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Its time was up.
    Expired,
    /// An operator took it back.
    Removed,
    /// The peer or neighbour that decided it took it back.
    Withdrawn,
    /// A longer or stronger decision of the same origin took its place.
    Replaced,
    /// The client was put on the allowlist.
    Allowed,
    /// The ledger was full and this was the decision with the least time left.
    Evicted,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique over all nodes.
    pub id: DecisionId,
    /// Who is covered.
    pub scope: Scope,
    /// What is done.
    pub action: Action,
    /// Who decided.
    pub origin: Origin,
    /// In a sentence.
    pub reason: Arc<str>,
    /// The scenario, where one decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Arc<str>>,
    /// Unix milliseconds.
    pub start_ms: u64,
    /// Unix milliseconds; none: until it is taken back.
    pub end_ms: Option<u64>,
    /// What led to it; an operator's has nothing.
    #[serde(default, skip_serializing_if = "Cause::is_empty")]
    pub cause: Cause,
}

impl Cause {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Decision {
    /// The same without a person in it: the network of the address (/24, /48) in its place, no request ids, no text that
    /// names the address. None where nothing in it is personal.
    pub fn anonymous(&self) -> Option<Self> {
        let network = self.scope.network()?;
        let wide = crate::client::anonymous(network.addr());
        let is_narrow = network.prefix() > wide.prefix();
        let names = self.reason.contains(&network.addr().to_string());
        (is_narrow || names || !self.cause.requests.is_empty()).then(|| Self {
            scope: if is_narrow { Scope::Network(wide) } else { self.scope.clone() },
            reason: if names { "anonymised".into() } else { self.reason.clone() },
            cause: Cause { requests: Vec::new(), ..self.cause.clone() },
            ..self.clone()
        })
    }

    /// Whether it holds at `now_ms`.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.end_ms.is_none_or(|end| end > now_ms)
    }

    /// The end as a number that sorts: for ever is the greatest.
    pub fn end_or_max(&self) -> u64 {
        self.end_ms.unwrap_or(u64::MAX)
    }
}

/// Cuts a text to at most `max` bytes at a character's edge, with control characters replaced.
pub fn cut(text: &str, max: usize) -> Arc<str> {
    let end = text.floor_char_boundary(max);
    let kept = &text[..end];
    if kept.contains(char::is_control) {
        kept.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
    } else {
        kept.into()
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is not a decision's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a decision's id has 32 hexadecimal digits; `gateway ban list` shows them")]
pub struct DecisionIdError;

impl FromStr for DecisionId {
    type Err = DecisionIdError;

    fn from_str(text: &str) -> Result<Self, DecisionIdError> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or(DecisionIdError)
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(DecisionId, Origin);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_survive_text() {
        let early = DecisionId::new(1, u32::MAX, u64::MAX);
        let late = DecisionId::new(2, 0, 0);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(DecisionId::from_bytes(late.to_bytes()), late);
        for bad in ["", "+0000000000000000000000000000000", "zz"] {
            assert_eq!(bad.parse::<DecisionId>(), Err(DecisionIdError), "{bad}");
        }
    }

    #[test]
    fn origins_survive_text() {
        for text in ["local", "operator", "crowdsec", "peer:n2", "feed:drop"] {
            assert_eq!(text.parse::<Origin>().expect("origin").to_string(), text);
        }
        for bad in ["", "peer:", "peers:n", "feed"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cuts_at_characters() {
        for (text, max, expected) in [("abc", 2, "ab"), ("aé", 2, "a"), ("a\nb", 9, "a b"), ("", 0, "")] {
            assert_eq!(&*cut(text, max), expected);
        }
    }
}
