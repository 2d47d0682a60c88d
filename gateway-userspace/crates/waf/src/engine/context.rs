//! What a transaction is told from outside: it has no clock, no randomness and no I/O of its own.

use std::{net::SocketAddr, sync::Arc};

use crate::collections::CollectionStore;

/// The connection a transaction came by.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The client: REMOTE_ADDR, REMOTE_PORT.
    pub client: SocketAddr,
    /// Where it connected to: SERVER_ADDR, SERVER_PORT.
    pub server: SocketAddr,
    /// Start of the transaction, nanoseconds since 1970, UTC.
    pub unix_nanos: u64,
    /// Seconds to add to UTC for the TIME_* variables.
    pub utc_offset_seconds: i32,
    /// UNIQUE_ID.
    pub unique_id: &'a str,
    /// Where collections of different sites are to be kept apart: WEBAPPID where no SecWebAppId is given.
    pub web_app_id: &'a str,
}

/// What a transaction may use while it runs.
#[derive(Clone, Default)]
pub struct Services {
    /// Geographic database for `@geoLookup`.
    pub geo: Option<Arc<dyn crate::operators::GeoLookup>>,
    /// Cached block-list answers for `@rbl`.
    pub rbl: Option<Arc<dyn crate::operators::RblLookup>>,
    /// Persistent collections; without one, `initcol` makes a collection that lives as long as the transaction.
    pub store: Option<Arc<dyn CollectionStore>>,
    /// Bytes of an uploaded file that are kept: what comes after is left out of memory, and only counted, unless a rule
    /// asks for FILES_TMP_CONTENT. None: files are kept whole.
    pub upload_memory: Option<usize>,
    /// Environment variables for ENV, taken once at start.
    pub environment: Arc<[(String, String)]>,
}

/// Anomaly scores as CRS keeps them in TX, those that are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Scores {
    /// `tx.blocking_inbound_anomaly_score`; in CRS 3 `tx.anomaly_score`.
    pub inbound: i64,
    /// `tx.detection_inbound_anomaly_score`.
    pub inbound_detection: i64,
    /// `tx.inbound_anomaly_score_threshold`.
    pub inbound_threshold: i64,
    /// `tx.blocking_outbound_anomaly_score`; in CRS 3 `tx.outbound_anomaly_score`.
    pub outbound: i64,
    /// `tx.detection_outbound_anomaly_score`.
    pub outbound_detection: i64,
    /// `tx.outbound_anomaly_score_threshold`.
    pub outbound_threshold: i64,
}

/// Watches rules at work, for tools that explain and profile. The clock is the watcher's.
pub trait Observer: Send {
    /// A rule (the starter, of a chain) is about to be asked.
    fn begins(&mut self, rule_id: u64);
    /// It was asked, and its actions ran.
    fn ends(&mut self, rule_id: u64, matched: bool);
}
