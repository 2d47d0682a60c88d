//! One request's inspection: the engine's phases, fed with what the daemon holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_waf::{BodyOutcome, Connection, Disruption, EngineMode, Transaction, Verdict};
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::BodyExt as _;

use super::WafDenial;
use super::body::{Buffered, Holding, Replay};
use crate::config::policy::POLICY_KEY;
use crate::config::waf::Mode;
use crate::wire::Body;

/// Most rule ids kept of one request.
pub const MAX_RULES: usize = 64;

/// What the rules see of a request: the same that the upstream will see.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The client's address and port (0 behind a proxy).
    pub client: SocketAddr,
    /// Our end.
    pub server: SocketAddr,
    /// Nanoseconds since 1970.
    pub unix_nanos: u64,
    /// The request's id.
    pub request_id: &'a str,
    /// The method.
    pub method: &'a Method,
    /// Path and query after normalisation.
    pub target: &'a [u8],
    /// As the client spoke.
    pub version: Version,
    /// The fields, `Host` among them.
    pub headers: &'a HeaderMap,
    /// Fields that the client sent and that go no further.
    pub withheld: &'a HeaderMap,
    /// What the handshake showed; `None` without TLS.
    pub tls: Option<TlsFacts<'a>>,
}

/// What rules see of a handshake, in the `TX` collection: `ssl_protocol`, `ja4`, `ssl_server_name`,
/// `ssl_client_verify`, `ssl_client_s_dn`, `ssl_client_i_dn`, `ssl_client_san`.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'a str,
    /// The fingerprint of the client's hello.
    pub ja4: Option<&'a str>,
    /// SNI.
    pub server_name: Option<&'a str>,
    /// Subject, issuer and alternative names of a verified client certificate.
    pub certificate: Option<[&'a str; 3]>,
}

impl TlsFacts<'_> {
    fn tell(&self, tx: &mut Transaction) {
        let mut set = |name: &str, value: &str| tx.set_tx(name, value.as_bytes());
        set("ssl_protocol", self.version);
        if let Some(ja4) = self.ja4 {
            set("ja4", ja4);
        }
        if let Some(name) = self.server_name {
            set("ssl_server_name", name);
        }
        set("ssl_client_verify", if self.certificate.is_some() { "SUCCESS" } else { "NONE" });
        if let Some([subject, issuer, names]) = self.certificate {
            set("ssl_client_s_dn", subject);
            set("ssl_client_i_dn", issuer);
            set("ssl_client_san", names);
        }
    }
}

/// What matched, for logs and offences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The anomaly score of the request.
    pub score: i64,
    /// Ids of rules that matched, at most [`MAX_RULES`].
    pub rules: Vec<u64>,
}

/// One request under inspection.
pub struct Inspection {
    transaction: Option<Box<Transaction>>,
    mode: Mode,
    policy: u32,
    holding: Option<Arc<Holding>>,
    would_refuse: bool,
    has_begun: bool,
    has_response: bool,
    took: Duration,
}

impl Default for Inspection {
    /// One that passes everything.
    fn default() -> Self {
        Self::off()
    }
}

impl Inspection {
    pub(super) fn off() -> Self {
        Self {
            transaction: None,
            mode: Mode::Off,
            policy: 0,
            holding: None,
            would_refuse: false,
            has_begun: false,
            has_response: false,
            took: Duration::ZERO,
        }
    }

    pub(super) fn new(transaction: Box<Transaction>, mode: Mode, policy: u32, holding: Arc<Holding>) -> Self {
        Self { transaction: Some(transaction), mode, policy, holding: Some(holding), ..Self::off() }
    }

    /// The transaction, ready for its logging phase: with the status that the client got, if no server answered. None
    /// of one that never began.
    pub(super) fn take_transaction(&mut self, status: u16) -> Option<Box<Transaction>> {
        let mut transaction = self.transaction.take()?;
        if !self.has_response {
            transaction.response_line(status, b"HTTP/1.1", b"");
        }
        self.has_begun.then_some(transaction)
    }

    pub(super) fn took(&self) -> Duration {
        self.took
    }

    /// Whether a rule refused, or would have in blocking mode.
    pub fn would_refuse(&self) -> bool {
        self.would_refuse
    }

    /// Whether verdicts are carried out.
    pub fn is_blocking(&self) -> bool {
        self.mode == Mode::Block
    }

    /// Phase 1.
    ///
    /// # Errors
    /// What the rules want instead.
    pub fn request_headers(&mut self, view: &RequestView<'_>) -> Result<(), WafDenial> {
        let Some(tx) = &mut self.transaction else { return Ok(()) };
        let started = Instant::now();
        tx.begin(&Connection {
            client: view.client,
            server: view.server,
            unix_nanos: view.unix_nanos,
            utc_offset_seconds: 0,
            unique_id: view.request_id,
            web_app_id: "default",
        });
        // The route's own mode, whatever the rules were compiled with; `ctl:ruleEngine` may change it again.
        tx.set_engine_mode(if self.mode == Mode::Block { EngineMode::On } else { EngineMode::DetectionOnly });
        if self.policy != 0 {
            tx.set_tx(POLICY_KEY, self.policy.to_string().as_bytes());
        }
        self.has_begun = true;
        if let Some(tls) = &view.tls {
            tls.tell(tx);
        }
        tx.request_line(view.method.as_str().as_bytes(), view.target, protocol(view.version));
        for (name, value) in view.headers.iter().chain(view.withheld) {
            tx.request_header(name.as_str().as_bytes(), value.as_bytes());
        }
        let verdict = tx.request_headers();
        self.took += started.elapsed();
        self.judge(verdict)
    }

    /// Phase 2: holds the body back until the rules have seen it (or as much as they want), then gives it
    /// back to be sent on.
    ///
    /// # Errors
    /// What the rules want instead; or why the body can't be read.
    pub async fn request_body(&mut self, body: Body) -> Result<Body, WafDenial> {
        let Some(tx) = &mut self.transaction else { return Ok(body) };
        let mut body = body;
        if let Some(holding) = self.holding.as_ref().filter(|_| tx.wants_request_body()) {
            let held = hold(tx, body, holding, &mut self.took, Transaction::write_request_body).await?;
            body = match held {
                Held::Body(body) => body,
                Held::Stopped(verdict, body) => {
                    self.judge(verdict)?;
                    body
                }
            };
        }
        let Some(tx) = &mut self.transaction else { return Ok(body) };
        let started = Instant::now();
        let verdict = tx.request_body();
        self.took += started.elapsed();
        self.judge(verdict)?;
        Ok(body)
    }

    /// Phases 3 and 4: the response's head, and its body where the rules want to see it.
    ///
    /// # Errors
    /// As [`Inspection::request_body`].
    pub async fn response(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Body, WafDenial> {
        let Some(tx) = &mut self.transaction else { return Ok(body) };
        let started = Instant::now();
        self.has_response = true;
        tx.response_line(status.as_u16(), b"HTTP/1.1", b"");
        for (name, value) in headers {
            tx.response_header(name.as_str().as_bytes(), value.as_bytes());
        }
        let verdict = tx.response_headers();
        self.took += started.elapsed();
        self.judge(verdict)?;
        let Some(tx) = &mut self.transaction else { return Ok(body) };
        let mut body = body;
        if let Some(holding) = self.holding.as_ref().filter(|_| tx.wants_response_body()) {
            let held = hold(tx, body, holding, &mut self.took, Transaction::write_response_body).await?;
            body = match held {
                Held::Body(body) => body,
                Held::Stopped(verdict, body) => {
                    self.judge(verdict)?;
                    body
                }
            };
        }
        let Some(tx) = &mut self.transaction else { return Ok(body) };
        let started = Instant::now();
        let verdict = tx.response_body();
        self.took += started.elapsed();
        self.judge(verdict)?;
        Ok(body)
    }

    /// What matched so far.
    pub fn findings(&self) -> Findings {
        self.transaction.as_ref().map_or_else(Findings::default, |tx| findings(tx))
    }

    /// A verdict in this mode: only blocking carries it out.
    fn judge(&mut self, verdict: Verdict) -> Result<(), WafDenial> {
        let denial = match verdict {
            Verdict::Pass | Verdict::Allow { .. } => return Ok(()),
            Verdict::Deny { status, rule_id } => WafDenial::Deny { status, rule_id },
            Verdict::Drop { rule_id } => WafDenial::Drop { rule_id },
            Verdict::Redirect { status, location, rule_id } => {
                WafDenial::Redirect { status, location, rule_id }
            }
        };
        self.would_refuse = true;
        if self.mode == Mode::Block { Err(denial) } else { Ok(()) }
    }
}

/// What matched so far.
pub(super) fn findings(tx: &Transaction) -> Findings {
    let rules = tx.matches().iter().map(|m| m.rule.id).take(MAX_RULES).collect();
    let scores = tx.scores();
    Findings { score: scores.inbound_detection.max(scores.inbound), rules }
}

/// Whether a rule would have refused, had it been let.
pub(super) fn would_refuse(tx: &Transaction) -> bool {
    let refuses = |action| matches!(action, Disruption::Deny | Disruption::Drop | Disruption::Redirect);
    tx.matches().iter().any(|m| refuses(m.action))
}

enum Held {
    /// The whole body, or its beginning in memory and the rest as it comes.
    Body(Body),
    /// The engine has a limit of its own that is passed.
    Stopped(Verdict, Body),
}

/// Feeds a body to the rules until its end, or until they have enough.
async fn hold(
    tx: &mut Transaction,
    body: Body,
    holding: &Arc<Holding>,
    took: &mut Duration,
    write: fn(&mut Transaction, &[u8]) -> BodyOutcome,
) -> Result<Held, WafDenial> {
    let mut body = body;
    let mut buffered = Buffered::new(Arc::clone(holding));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(WafDenial::Body)?;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(other) => {
                buffered.set_trailers(other);
                continue;
            }
        };
        let started = Instant::now();
        let outcome = write(tx, &data);
        *took += started.elapsed();
        if !buffered.push(data).await {
            return Err(WafDenial::Overload);
        }
        match outcome {
            BodyOutcome::Continue => {}
            BodyOutcome::Enough => return join(buffered, body).await.map(Held::Body),
            BodyOutcome::Stop(verdict) => {
                return join(buffered, body).await.map(|body| Held::Stopped(verdict, body));
            }
        }
    }
    join(buffered, Body::Empty).await.map(Held::Body)
}

async fn join(buffered: Buffered, rest: Body) -> Result<Body, WafDenial> {
    Replay::join(buffered, rest).await.map_err(|e| {
        tracing::error!("a spooled body can't be read back: {e}");
        WafDenial::Overload
    })
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 => b"HTTP/2.0",
        Version::HTTP_3 => b"HTTP/3.0",
        _ => b"HTTP/1.1",
    }
}

impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspection").field("mode", &self.mode).finish_non_exhaustive()
    }
}
