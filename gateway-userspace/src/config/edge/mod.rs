//! Listeners, certificates, client identity, routes and upstreams.

use serde::Deserialize;

use super::{Base, Problems};

/// `[[listeners]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawListener {}

/// `[tls]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {}

/// `[client]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawClient {}

/// `[http]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {}

/// `[[upstreams]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawUpstream {}

/// `[[routes]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRoute {}

/// All of the edge's sections, as written.
#[derive(Debug)]
pub(super) struct RawEdge {
    pub(super) listeners: Vec<RawListener>,
    pub(super) tls: RawTls,
    pub(super) client: RawClient,
    pub(super) http: RawHttp,
    pub(super) upstreams: Vec<RawUpstream>,
    pub(super) routes: Vec<RawRoute>,
}

/// The edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {}

pub(super) fn check(raw: RawEdge, _base: &Base, _problems: &mut Problems<'_>) -> Edge {
    let RawEdge { listeners: _, tls: _, client: _, http: _, upstreams: _, routes: _ } = raw;
    Edge {}
}
