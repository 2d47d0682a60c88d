//! The engine in this process, between an HTTP front and the emulated backend.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use gateway_waf::record::error_log::{self, LineContext};
use gateway_waf::{BodyOutcome, Connection, Ruleset, Services, Transaction, Verdict};

use super::front::{self, Request};
use super::origin::{self, Response};
use super::target::{Outcome, Target};

/// What the client gets: none where the connection is closed without an answer.
type Answer = Option<Response>;

/// Runs each request through one reused transaction.
pub struct InProcess {
    transaction: Transaction,
    count: u64,
}

impl InProcess {
    /// A target under `ruleset`.
    pub fn new(ruleset: Arc<Ruleset>) -> Self {
        Self { transaction: Transaction::new(ruleset, Services::default()), count: 0 }
    }

    fn inspect(&mut self, request: &Request) -> Answer {
        let tx = &mut self.transaction;
        tx.request_line(&request.method, &request.uri, &request.protocol);
        for (name, value) in &request.headers {
            tx.request_header(name, value);
        }
        if let Some(blocked) = blocking(&tx.request_headers()) {
            return blocked;
        }
        if tx.wants_request_body()
            && let BodyOutcome::Stop(verdict) = tx.write_request_body(&request.body)
        {
            return blocking(&verdict).unwrap_or(None);
        }
        if let Some(blocked) = blocking(&tx.request_body()) {
            return blocked;
        }
        let response = origin::answer(&request.method, &request.uri, &request.body);
        tx.response_line(response.status, b"HTTP/1.1", b"");
        for (name, value) in &response.headers {
            tx.response_header(name.as_bytes(), value.as_bytes());
        }
        if let Some(blocked) = blocking(&tx.response_headers()) {
            return blocked;
        }
        if tx.wants_response_body()
            && let BodyOutcome::Stop(verdict) = tx.write_response_body(&response.body)
        {
            return blocking(&verdict).unwrap_or(None);
        }
        blocking(&tx.response_body()).unwrap_or(Some(response))
    }
}

/// The answer in place of the origin's, if the verdict blocks; that in turn is none for a dropped connection.
fn blocking(verdict: &Verdict) -> Option<Answer> {
    let plain = |status| Response { status, headers: Vec::new(), body: Vec::new() };
    match verdict {
        Verdict::Pass | Verdict::Allow { .. } => None,
        Verdict::Deny { status, .. } => Some(Some(plain(*status))),
        Verdict::Drop { .. } => Some(None),
        Verdict::Redirect { status, location, .. } => Some(Some(Response {
            headers: vec![("Location".to_owned(), location.clone())],
            ..plain(*status)
        })),
    }
}

impl Target for InProcess {
    fn send(&mut self, raw: &[u8]) -> Result<Outcome> {
        let request = match front::parse(raw) {
            Ok(request) => request,
            Err(refusal) => {
                return Ok(Outcome {
                    status: Some(refusal.status),
                    response: format!("HTTP/1.1 {} {}\r\n\r\n", refusal.status, refusal.reason),
                    refused: Some(refusal.reason.to_owned()),
                    log: Vec::new(),
                });
            }
        };
        self.count += 1;
        let unique_id = format!("crs-{}", self.count);
        let nanos = 1_700_000_000_000_000_000 + self.count * 1_000_000;
        self.transaction.begin(&Connection {
            client: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            server: SocketAddr::from(([127, 0, 0, 1], 80)),
            unix_nanos: nanos,
            utc_offset_seconds: 0,
            unique_id: &unique_id,
            web_app_id: "",
        });
        let response = self.inspect(&request);
        self.transaction.logging(nanos + 500_000);
        let status = response.as_ref().map(|r| r.status);
        let context = LineContext {
            client: "127.0.0.1",
            hostname: "localhost",
            uri: request.uri.split(|&b| b == b'?').next().unwrap_or_default(),
            unique_id: &unique_id,
            status: status.unwrap_or(0),
        };
        let log = self.transaction.matches().iter().filter(|m| m.log);
        Ok(Outcome {
            status,
            refused: None,
            log: log.map(|matched| error_log::line(matched, &context)).collect(),
            response: response.map(|response| text(&response)).unwrap_or_default(),
        })
    }
}

fn text(response: &Response) -> String {
    let mut text = format!("HTTP/1.1 {}\r\n", response.status);
    for (name, value) in &response.headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text.push_str(&String::from_utf8_lossy(&response.body));
    text
}
