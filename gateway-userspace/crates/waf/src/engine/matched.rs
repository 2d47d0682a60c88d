//! The record of a rule that matched.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Serialize, Serializer};

/// Bytes of a request in a record: kept as they came, shown with everything outside of printable ASCII and valid
/// UTF-8 as `\xHH`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Box<[u8]>);

impl Text {
    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Text {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_ascii_control() { write!(f, "\\x{:02x}", c as u32)? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Severities of the syslog kind, 0 the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Severity {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Severity {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Emergency, "EMERGENCY"),
        (Self::Alert, "ALERT"),
        (Self::Critical, "CRITICAL"),
        (Self::Error, "ERROR"),
        (Self::Warning, "WARNING"),
        (Self::Notice, "NOTICE"),
        (Self::Info, "INFO"),
        (Self::Debug, "DEBUG"),
    ];

    /// From a name in any case or a number.
    pub fn from_name(name: &str) -> Option<Self> {
        let by_number = name.parse::<usize>().ok().and_then(|n| Self::ALL.get(n)).map(|s| s.0);
        by_number.or_else(|| Self::ALL.iter().find(|s| s.1.eq_ignore_ascii_case(name)).map(|s| s.0))
    }

    /// In capitals, as logs have it.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// What a rule says about itself; shared by every record of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleInfo {
    /// The id, unique in a rule set.
    pub id: u64,
    /// 1 to 5.
    pub phase: u8,
    /// The file it stands in.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// Tags, macros not expanded.
    pub tags: Vec<String>,
    /// `severity`.
    pub severity: Option<Severity>,
    /// `ver`.
    pub ver: Option<String>,
    /// `rev`.
    pub rev: Option<String>,
    /// `maturity`, 1 to 9.
    pub maturity: Option<u8>,
    /// `accuracy`, 1 to 9.
    pub accuracy: Option<u8>,
    /// The operator as written, for the error-log line: `Rx` and the argument.
    pub operator: String,
    /// The operator's argument as written.
    pub argument: String,
    /// What values go through before the operator sees them (the starter's, of a chain), in order.
    pub transformations: Vec<&'static str>,
    /// `logdata` as written, macros not expanded.
    pub logdata: String,
    /// `msg` as written, macros not expanded.
    pub msg: String,
}

/// A value that a rule matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MatchedValue {
    /// The variable with its key: `ARGS:foo`.
    pub variable: Text,
    /// The value after the transformations, cut at [`MATCHED_VALUE_MAX_BYTES`](crate::MATCHED_VALUE_MAX_BYTES).
    pub value: Text,
}

/// A rule that matched and was to be logged.
#[derive(Clone, Debug, Serialize)]
pub struct MatchedRule {
    /// The rule (the starter, of a chain).
    #[serde(flatten, serialize_with = "shared")]
    pub rule: Arc<RuleInfo>,
    /// `msg`, macros expanded.
    pub message: Text,
    /// `logdata`, macros expanded.
    pub data: Text,
    /// Tags, macros expanded; empty when none has a macro (then [`RuleInfo::tags`] are it).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expanded_tags: Vec<Text>,
    /// The values that matched, in the order they did, those of chain links after the starter's;
    /// at most [`MATCHED_VALUES_MAX`](crate::MATCHED_VALUES_MAX).
    pub values: Vec<MatchedValue>,
    /// The disruptive action taken, or that would have been taken without `DetectionOnly`.
    pub action: Disruption,
    /// Whether the action was taken.
    pub interrupted: bool,
    /// Whether it goes to the error log.
    pub log: bool,
    /// Whether it makes the transaction one for the audit log.
    pub audit: bool,
}

impl MatchedRule {
    /// The tags as they are to be logged.
    pub fn tags(&self) -> Vec<String> {
        if self.expanded_tags.is_empty() {
            self.rule.tags.clone()
        } else {
            self.expanded_tags.iter().map(ToString::to_string).collect()
        }
    }

    /// The variable that matched last, as `MATCHED_VAR_NAME` had it; empty for a `SecAction`.
    pub fn variable(&self) -> &[u8] {
        self.values.last().map_or(&[], |v| v.variable.as_bytes())
    }

    /// The value that matched last, after its transformations.
    pub fn value(&self) -> &[u8] {
        self.values.last().map_or(&[], |v| v.value.as_bytes())
    }
}

/// The disruptive action of a rule, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Disruption {
    Pass,
    Allow,
    Deny,
    Drop,
    Redirect,
}

fn shared<S: Serializer>(rule: &Arc<RuleInfo>, serializer: S) -> Result<S::Ok, S::Error> {
    rule.as_ref().serialize(serializer)
}
