//! `[[limits]]` and `[limit_store]`.

use serde::Deserialize;

use super::{Base, Problems};

/// `[[limits]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimit {}

/// `[limit_store]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStore {}

/// Rate limits and their stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {}

pub(super) fn check(
    _limits: Vec<RawLimit>,
    _store: RawStore,
    _base: &Base,
    _problems: &mut Problems<'_>,
) -> Limits {
    Limits {}
}
