//! Usage metrics for the local API: what was dropped, and how many decisions are followed. CrowdSec knows them since
//! 1.6.3; an older one answers 404, which is said once and is no failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{CrowdSecState, Failure};
use crate::fetch::Client;

/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// Packets that the kernel saw, and those that it dropped for CrowdSec's decisions; none without a kernel side.
pub type Packets = Arc<dyn Fn() -> (u64, u64) + Send + Sync>;

/// Sends metrics now and then until the runtime ends or the API does not know them.
pub(super) struct Usage {
    pub(super) url: Arc<str>,
    pub(super) every: Duration,
    pub(super) headers: HeaderMap,
    pub(super) client: Client,
    pub(super) state: Arc<CrowdSecState>,
    pub(super) packets: Option<Packets>,
    pub(super) clock: Arc<dyn crate::bans::Clock>,
}

impl Usage {
    pub(super) async fn run(mut self) {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let started_ms = self.clock.now_ms();
        let mut before = self.packets.as_ref().map(|packets| packets());
        loop {
            tokio::time::sleep(self.every).await;
            let now = self.packets.as_ref().map(|packets| packets());
            let window = now
                .zip(before)
                .map(|(now, then)| (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1)));
            let times = (started_ms / 1000, self.clock.now_ms() / 1000, self.every.as_secs());
            let body = payload(window, self.state.followed.load(Ordering::Relaxed), times);
            match self.send(&body).await {
                Ok(true) => {
                    before = now;
                    self.state.metrics_sent.fetch_add(1, Ordering::Relaxed);
                }
                Ok(false) => {
                    self.state.metrics_unknown.store(true, Ordering::Relaxed);
                    tracing::info!(
                        "this CrowdSec knows no usage metrics (they came with 1.6.3): none are sent"
                    );
                    return;
                }
                Err(failure) => {
                    tracing::debug!(%failure, "usage metrics are not sent; the next ones hold them too");
                }
            }
        }
    }

    /// Whether the API knows them.
    async fn send(&self, body: &Value) -> Result<bool, Failure> {
        let url = format!("{}/v1/usage-metrics", self.url);
        let body = serde_json::to_vec(body)?.into();
        let answer = self.client.send(Method::POST, &url, &self.headers, body, MAX_ANSWER_BYTES).await?;
        match answer.status {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            other => Err(Failure::Status(other)),
        }
    }
}

/// `window`: packets seen and dropped; `times`: start, now, both in Unix seconds, and the window's length in seconds.
fn payload(window: Option<(u64, u64)>, followed: u64, (started, now, length): (u64, u64, u64)) -> Value {
    let item = |name: &str, value: u64, unit: &str, labels: Value| json!({ "name": name, "value": value, "unit": unit, "labels": labels });
    let mut items = vec![item("active_decisions", followed, "ip", json!({}))];
    if let Some((seen, dropped)) = window {
        items.push(item("processed", seen, "packet", json!({})));
        // The kernel counts the drops of all of CrowdSec's decisions together, not by their origins.
        items.push(item("dropped", dropped, "packet", json!({ "remediation": "ban" })));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "remediation_components": [{
            "name": "gateway",
            "type": "gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "feature_flags": [],
            "utc_startup_timestamp": started,
            "os": { "name": "linux", "version": release.trim() },
            "metrics": [{
                "meta": { "window_size_seconds": length, "utc_now_timestamp": now },
                "items": items,
            }],
        }],
        "log_processors": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_has_what_was_dropped_in_the_window() {
        let body = payload(Some((100, 7)), 3, (10, 910, 900));
        let component = &body["remediation_components"][0];
        assert_eq!(component["utc_startup_timestamp"], 10);
        let metrics = &component["metrics"][0];
        assert_eq!(metrics["meta"]["window_size_seconds"], 900);
        let values: Vec<(&str, u64)> = metrics["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|i| Some((i["name"].as_str()?, i["value"].as_u64()?)))
            .collect();
        assert_eq!(values, [("active_decisions", 3), ("processed", 100), ("dropped", 7)]);
        let without = payload(None, 3, (10, 910, 900));
        assert_eq!(
            without["remediation_components"][0]["metrics"][0]["items"].as_array().map(Vec::len),
            Some(1)
        );
    }
}
