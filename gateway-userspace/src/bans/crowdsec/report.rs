//! Our decisions, told to the local API as one of its machines (watchers): an alert each, with the decision in it, so
//! that its other bouncers refuse the client too; and taken back there when an operator takes them back here.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{CrowdSecError, CrowdSecState, Failure, MAX_WAIT, secret};
use crate::bans::clock::rfc3339;
use crate::bans::http::Client;
use crate::bans::{Action, Change, Decision, Ending, Origin, Scope};
use crate::config::bans::{CrowdSec, Report};

/// Alerts told in one call.
const AT_ONCE: usize = 100;
/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How long a decision without an end is told to hold.
const ENDLESS: Duration = Duration::from_hours(24 * 365);

/// What was told; for metrics and status.
#[derive(Debug, Default)]
pub struct Reported {
    /// Decisions told.
    pub told: AtomicU64,
    /// Decisions taken back.
    pub taken_back: AtomicU64,
    /// Decisions that could not be told: the API was away, or the reporter lagged.
    pub lost: AtomicU64,
}

/// A machine of the local API.
pub(super) struct Watcher {
    url: Arc<str>,
    machine: Arc<str>,
    password: Option<String>,
    client: Client,
    state: Arc<CrowdSecState>,
    token: Option<HeaderValue>,
}

/// A call that tells of decisions.
struct Call {
    method: Method,
    path: String,
    body: Bytes,
    decisions: u64,
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

impl Watcher {
    pub(super) fn new(
        config: &CrowdSec,
        report: &Report,
        client: Client,
        state: Arc<CrowdSecState>,
    ) -> Result<Self, CrowdSecError> {
        let password = report.password_file.as_deref().map(secret).transpose()?;
        Ok(Self {
            url: config.url.clone(),
            machine: report.machine.clone(),
            password,
            client,
            state,
            token: None,
        })
    }

    /// Tells what changes until the bans end.
    pub(super) async fn run(mut self, mut changes: Receiver<Arc<[Change]>>) {
        while let Some(batch) = self.next(&mut changes).await {
            for part in batch.chunks(AT_ONCE) {
                for call in self.calls(part) {
                    self.insist(call).await;
                }
            }
        }
    }

    /// Makes a call until it works. While the API is away the listener may lag behind: what it skips counts as lost.
    async fn insist(&mut self, call: Call) {
        let mut wait = Duration::from_secs(1);
        while let Err(failure) = self.call(call.method.clone(), &call.path, call.body.clone()).await {
            let is_final = |status: &StatusCode| status.is_client_error() || call.method == Method::DELETE;
            if matches!(&failure, Failure::Status(status) if is_final(status)) {
                tracing::warn!(%failure, path = %call.path, "CrowdSec does not take a decision of ours");
                self.state.reported.lost.fetch_add(call.decisions, Ordering::Relaxed);
                return;
            }
            tracing::debug!(%failure, "decisions are not told to CrowdSec yet");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
        let reported = &self.state.reported;
        let counter = if call.method == Method::POST { &reported.told } else { &reported.taken_back };
        counter.fetch_add(call.decisions, Ordering::Relaxed);
    }

    /// The calls that tell of changes: one for all that began, one for each that was taken back.
    fn calls(&self, changes: &[Change]) -> Vec<Call> {
        let mut calls = Vec::new();
        let began = changes.iter().filter_map(|change| match change {
            Change::Began(decision) => alert(decision, &self.machine),
            Change::Ended(_) => None,
        });
        let alerts: Vec<Value> = began.collect();
        if !alerts.is_empty() {
            let decisions = alerts.len() as u64;
            let body = Value::Array(alerts).to_string().into();
            calls.push(Call { method: Method::POST, path: "/v1/alerts".into(), body, decisions });
        }
        for change in changes {
            if let Change::Ended(ended) = change
                && matches!(ended.how, Ending::Removed | Ending::Allowed)
                && let Some((_, value)) = told_scope(&ended.decision)
            {
                // By value alone: who is released here is released there, and older versions know no filter by scenario.
                let path = format!("/v1/decisions?value={}", value.replace(':', "%3A").replace('/', "%2F"));
                calls.push(Call { method: Method::DELETE, path, body: Bytes::new(), decisions: 1 });
            }
        }
        calls
    }

    async fn next(&self, changes: &mut Receiver<Arc<[Change]>>) -> Option<Arc<[Change]>> {
        loop {
            match changes.recv().await {
                Ok(batch) => return Some(batch),
                Err(RecvError::Lagged(skipped)) => {
                    self.state.reported.lost.fetch_add(skipped, Ordering::Relaxed);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// A call as this machine; logs in where it must.
    async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<(), Failure> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => self.log_in().await?,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let url = format!("{}{path}", self.url);
        let answer = self.client.send(method, &url, &headers, body, MAX_ANSWER_BYTES).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.token = None;
                Err(Failure::Login)
            }
            other => Err(Failure::Status(other)),
        }
    }

    async fn log_in(&mut self) -> Result<HeaderValue, Failure> {
        let body = json!({ "machine_id": self.machine, "password": self.password, "scenarios": [] });
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let url = format!("{}/v1/watchers/login", self.url);
        let body = serde_json::to_vec(&body)?.into();
        let answer = self.client.send(Method::POST, &url, &headers, body, MAX_ANSWER_BYTES).await?;
        if !answer.status.is_success() {
            return Err(Failure::Login);
        }
        let login: Login = serde_json::from_slice(&answer.body)?;
        let mut token =
            HeaderValue::from_str(&format!("Bearer {}", login.token)).map_err(|_| Failure::Login)?;
        token.set_sensitive(true);
        self.token = Some(token.clone());
        Ok(token)
    }
}

/// What our decisions are called there: `gateway/waf`, or `gateway/operator`.
fn scenario(decision: &Decision) -> String {
    format!("gateway/{}", decision.scenario.as_deref().unwrap_or("operator"))
}

/// The origin that our decisions have there; what comes back with it is our own and left alone.
pub(super) fn origin(machine: &str) -> String {
    format!("gateway:{machine}")
}

/// Scope and value, where the decision is told at all: our own, and that it refuses somebody.
fn told_scope(decision: &Decision) -> Option<(&'static str, String)> {
    if !matches!(decision.origin, Origin::Local | Origin::Operator) || decision.action < Action::Challenge {
        return None;
    }
    match &decision.scope {
        Scope::Network(network) => {
            let is_host = network.prefix() == if network.addr().is_ipv4() { 32 } else { 128 };
            let range = || format!("{}/{}", network.addr(), network.prefix());
            Some(if is_host { ("Ip", network.addr().to_string()) } else { ("Range", range()) })
        }
        Scope::Asn(number) => Some(("AS", number.to_string())),
        Scope::Country(code) => Some(("Country", String::from_utf8_lossy(code).into_owned())),
        Scope::Ja4(_) => None,
    }
}

/// The alert that tells of a decision.
fn alert(decision: &Decision, machine: &str) -> Option<Value> {
    let (scope, value) = told_scope(decision)?;
    let cause = &decision.cause;
    let count: u64 = cause.offences.values().sum();
    let first = if cause.first_ms == 0 { decision.start_ms } else { cause.first_ms };
    let last = if cause.last_ms == 0 { decision.start_ms } else { cause.last_ms };
    let length =
        decision.end_ms.map_or(ENDLESS, |end| Duration::from_millis(end.saturating_sub(decision.start_ms)));
    let mut message = decision.reason.to_string();
    if !cause.rules.is_empty() {
        // Writing to a string can't fail.
        let _written = write!(message, "; rules {:?}", cause.rules);
    }
    let source = match &decision.scope {
        Scope::Network(network) => {
            json!({ "scope": scope, "value": value, "ip": network.addr(), "range": network.to_string() })
        }
        _ => json!({ "scope": scope, "value": value }),
    };
    Some(json!({
        "scenario": scenario(decision),
        "scenario_hash": "",
        "scenario_version": env!("CARGO_PKG_VERSION"),
        "message": message,
        "events_count": count,
        "events": [],
        "start_at": rfc3339(first),
        "stop_at": rfc3339(last),
        "capacity": 0,
        "leakspeed": "0s",
        "simulated": false,
        "remediation": true,
        "source": source,
        "decisions": [{
            "origin": origin(machine),
            "type": if decision.action == Action::Challenge { "captcha" } else { "ban" },
            "scope": scope,
            "value": value,
            "duration": format!("{}s", length.as_secs().max(1)),
            "scenario": scenario(decision),
        }],
    }))
}
