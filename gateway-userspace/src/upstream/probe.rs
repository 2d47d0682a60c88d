//! Active health checks: a GET now and then, on the side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

use super::forward::Upstream;
use super::health::Backend;
use super::{Patience, UpstreamError, UpstreamRequest};
use crate::config::edge::HealthCheck;
use crate::wire::Body;

/// What checks know of a server. It counts as up until a check says otherwise.
#[derive(Debug)]
pub(super) struct Probes {
    is_down: AtomicBool,
    /// Checks in a row that say the other thing.
    contrary: AtomicU64,
    /// Milliseconds after `epoch`.
    next: AtomicU64,
    epoch: Instant,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self {
            is_down: AtomicBool::new(false),
            contrary: AtomicU64::new(0),
            next: AtomicU64::new(0),
            epoch: Instant::now(),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Whether a check is due; the next one is set then.
    fn is_due(&self, check: &HealthCheck) -> bool {
        let now = self.epoch.elapsed().as_millis() as u64;
        let due = now >= self.next.load(Ordering::Relaxed);
        if due {
            self.next.store(now + check.interval.as_millis() as u64, Ordering::Relaxed);
        }
        due
    }

    /// Takes a check's result; whether the state changed.
    fn note(&self, is_good: bool, check: &HealthCheck) -> bool {
        if is_good != self.is_down() {
            self.contrary.store(0, Ordering::Relaxed);
            return false;
        }
        let needed = if is_good { check.healthy_after } else { check.unhealthy_after };
        if self.contrary.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return false;
        }
        self.contrary.store(0, Ordering::Relaxed);
        self.is_down.store(!is_good, Ordering::Relaxed);
        true
    }
}

impl Upstream {
    /// Starts the checks that are due, each as a task of its own, bounded in time. Call it now and then on one
    /// worker.
    pub(super) fn start_checks(self: &Arc<Self>, worker: usize) {
        let Some(check) = &self.config().health_check else { return };
        for backend in &self.backends {
            if backend.probes.is_due(check) {
                let (upstream, backend) = (Arc::clone(self), Arc::clone(backend));
                tokio::spawn(async move { upstream.check(worker, &backend).await });
            }
        }
    }

    async fn check(&self, worker: usize, backend: &Arc<Backend>) {
        let Some(check) = &self.config().health_check else { return };
        let asked = tokio::time::timeout(check.timeout, self.ask(worker, backend, check)).await;
        let is_good = asked.is_ok_and(|status| status.is_ok_and(|s| (200..400).contains(&s)));
        if backend.probes.note(is_good, check) {
            let server = &backend.server.address;
            if is_good {
                tracing::info!(%server, "health checks succeed: the server gets requests again");
            } else {
                tracing::warn!(%server, "health checks fail: the server gets no requests");
            }
        }
    }

    async fn ask(
        &self,
        worker: usize,
        backend: &Arc<Backend>,
        check: &HealthCheck,
    ) -> Result<u16, UpstreamError> {
        let mut headers = HeaderMap::new();
        let host = check.host.as_deref().unwrap_or(&backend.server.address);
        headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| UpstreamError::Unexpected)?);
        headers.insert(USER_AGENT, HeaderValue::from_static("gateway-health-check"));
        let request = UpstreamRequest {
            method: Method::GET,
            target: Bytes::copy_from_slice(check.path.as_bytes()),
            headers,
            upgrade: None,
            wants_trailers: false,
            client: [127, 0, 0, 1].into(),
            patience: Patience::default(),
        };
        let opened = self.open(backend, worker, true, self.config().connect_timeout).await?;
        let in_flight = backend.enter(u64::MAX).ok_or(UpstreamError::Full)?;
        let answer = self.exchange(opened, &request, Body::Empty, worker, in_flight).await;
        answer.map(|a| a.status.as_u16()).map_err(|failed| failed.error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_takes_a_few_in_a_row() {
        let check = HealthCheck {
            path: "/".to_owned(),
            host: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        };
        let probes = Probes::new();
        // g: good, b: bad; then whether it is down.
        for (result, down) in "bbgbbbgbgg".chars().zip("0000011110".chars()) {
            probes.note(result == 'g', &check);
            assert_eq!(probes.is_down(), down == '1');
        }
    }
}
