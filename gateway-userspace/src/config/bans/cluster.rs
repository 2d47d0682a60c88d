//! `[bans.cluster]`: decisions shared through Redis.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::config::{Base, Problems};

/// Most decisions of one peer that a configuration may allow.
pub const MAX_CAP: usize = 1_000_000;

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCluster {
    node: Spanned<String>,
    redis_file: String,
    key_file: String,
    #[serde(default)]
    stream: Option<Spanned<String>>,
    #[serde(default)]
    cap: Option<Spanned<usize>>,
    #[serde(default)]
    history: Option<Spanned<usize>>,
}

/// Decisions shared with other nodes through Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// This node's name, unique in the cluster; 1 to 64 letters, digits, `-`, `_` or `.`.
    pub node: Arc<str>,
    /// A file that holds the URL of Redis (`redis://`, `rediss://`), password and all.
    pub redis_file: PathBuf,
    /// A file that holds the cluster's key: at least 32 bytes, the same on every node. What is not
    /// signed with it is ignored.
    pub key_file: PathBuf,
    /// The stream's name, and the beginning of other keys; default `gateway:decisions`.
    pub stream: Arc<str>,
    /// Most decisions of each peer that hold here at once; default 20,000, 1 to [`MAX_CAP`].
    pub cap: usize,
    /// About how many messages the stream keeps; default 100,000, 1,000 to 10,000,000.
    pub history: usize,
}

pub(super) fn check(raw: RawCluster, base: &Base, problems: &mut Problems<'_>) -> Cluster {
    if !super::is_name(raw.node.get_ref()) {
        problems.at(raw.node.span(), "a node's name has 1 to 64 letters, digits, `-`, `_` or `.`.");
    }
    let stream = raw.stream.map_or_else(
        || Arc::from("gateway:decisions"),
        |stream| {
            if !(1..=128).contains(&stream.get_ref().len()) {
                problems.at(stream.span(), "`stream` has 1 to 128 characters.");
            }
            Arc::from(stream.into_inner())
        },
    );
    Cluster {
        node: raw.node.into_inner().into(),
        redis_file: base.path(&raw.redis_file),
        key_file: base.path(&raw.key_file),
        stream,
        cap: super::within(raw.cap, 20_000, 1..=MAX_CAP, "cap", problems),
        history: super::within(raw.history, 100_000, 1_000..=10_000_000, "history", problems),
    }
}
