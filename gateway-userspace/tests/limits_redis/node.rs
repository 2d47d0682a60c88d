//! A gateway's limits, as a node among others.

use std::path::Path;
use std::time::{Duration, Instant};

use gateway::client::ClientId;
use gateway::config::Config;
use gateway::limits::{Clock, Decision, LimitRequest, Limiter, Outcome};
use http::{HeaderMap, HeaderValue};

use super::server::Server;

/// The configuration of a node among `nodes` that share one limit at the server.
pub fn settings(server: &Server, nodes: usize, deadline: &str, limit: &str) -> String {
    format!(
        "[limit_store]\nredis = [\"127.0.0.1:{}\"]\nnodes = {nodes}\ndeadline = \"{deadline}\"\n\
         [[limits]]\nname = \"shared\"\n{limit}",
        server.port
    )
}

/// So many of them, connected.
pub async fn nodes(server: &Server, count: usize, deadline: &str, limit: &str) -> Vec<Node> {
    let text = settings(server, count, deadline, limit);
    let nodes: Vec<Node> = (0..count).map(|_| Node::new(&text)).collect();
    for node in &nodes {
        node.until_usable(true).await;
    }
    nodes
}

/// Limits with a clock of their own.
#[derive(Clone)]
pub struct Node {
    pub limiter: Limiter,
    clock: Clock,
}

impl Node {
    pub fn new(text: &str) -> Self {
        Self::in_folder(Path::new("/"), text)
    }

    /// The same with a clock that is ahead.
    pub fn ahead(text: &str, by: Duration) -> Self {
        Self::with_clock(Path::new("/"), text, Clock::start().ahead(by))
    }

    pub fn in_folder(folder: &Path, text: &str) -> Self {
        Self::with_clock(folder, text, Clock::start())
    }

    fn with_clock(folder: &Path, text: &str, clock: Clock) -> Self {
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).try_init();
        let config = Config::parse(&folder.join("gateway.toml"), text).unwrap_or_else(|e| panic!("{e}"));
        let random = [std::process::id().into(), Instant::now().elapsed().as_nanos() as u64];
        Self { limiter: Limiter::with_clock(&config.limits, random, clock), clock }
    }

    /// Waits until Redis is asked (or is not).
    pub async fn until_usable(&self, usable: bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.limiter.shared_usable() != Some(usable) {
            assert!(
                Instant::now() < until,
                "the breaker should be {}",
                if usable { "closed" } else { "open" }
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Asks for a client; `status` is what is answered, `None` if the request is broken off.
    pub async fn ask(&self, client: &str, key: &str, status: Option<u16>) -> bool {
        self.admitted(client, key, status).await.is_some()
    }

    /// As [`Node::ask`]; gives the moment at which the unit was taken, by the clock that decided. No window can be held
    /// against another time: the caller's task may run again long after.
    pub async fn admitted(&self, client: &str, key: &str, status: Option<u16>) -> Option<Instant> {
        let mut headers = HeaderMap::new();
        headers.insert("x-key", HeaderValue::try_from(key).expect("header value"));
        let request =
            LimitRequest::of(ClientId::direct(client.parse().expect("address")), &headers, self.now());
        match self.limiter.decide(&request).await {
            Decision::Allowed(permit) => {
                let at = self.clock.instant(permit.decided_at());
                if let Some(status) = status {
                    permit.settle(&Outcome { status, headers: &HeaderMap::new() }, self.now());
                }
                Some(at)
            }
            Decision::Refused(_) => None,
        }
    }

    /// How many of `n` requests, one after another, pass.
    pub async fn passed(&self, client: &str, key: &str, n: usize) -> usize {
        let mut passed = 0;
        for _ in 0..n {
            passed += usize::from(self.ask(client, key, Some(200)).await);
        }
        passed
    }

    /// A number from the metrics.
    pub fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        self.limiter.metrics(&mut text);
        let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        let line = line.unwrap_or_else(|| panic!("no metric {name} in\n{text}"));
        line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    }
}
