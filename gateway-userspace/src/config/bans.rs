//! `[bans]`: offences, scenarios, the ledger.

use serde::Deserialize;

use super::{Base, Problems};

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {}

/// Offences, scenarios, the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bans {}

pub(super) fn check(_raw: Raw, _base: &Base, _problems: &mut Problems<'_>) -> Bans {
    Bans {}
}
