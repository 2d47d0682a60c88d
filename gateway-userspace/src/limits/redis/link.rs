//! The way to Redis: connections, a breaker, and the task that keeps them.
//!
//! While the breaker is closed, commands go out under a deadline. Failures in a row, or a lost connection, open it:
//! from then on nobody asks Redis, and the keeper connects anew and runs the script on a key of its own until that
//! succeeds within the deadline (half open); then the breaker closes. It logs each of the two once.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect::{CONNECT_TIMEOUT, Connection, connect};
use super::script::{Arguments, LimitScript, answer};
use crate::config::limits::RedisStore;
use crate::limits::metrics::{Counter, head};

/// Upper bounds of the latency histogram's buckets, in microseconds.
const BUCKETS_US: [u64; 8] = [100, 250, 500, 1_000, 2_000, 5_000, 20_000, 100_000];

/// The way to Redis.
pub(super) struct Link {
    store: RedisStore,
    script: LimitScript,
    connections: ArcSwapOption<Vec<Connection>>,
    turn: AtomicUsize,
    closed: AtomicBool,
    failures: AtomicU32,
    /// The server's clock when this connection was proven, in microseconds.
    since_us: AtomicU64,
    opened: Notify,
    metrics: Metrics,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the breaker is open")]
    Open,
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{0}")]
    Redis(#[from] RedisError),
}

#[derive(Default)]
struct Metrics {
    commands: Counter,
    failures: Counter,
    timeouts: Counter,
    opened: Counter,
    buckets: [Counter; BUCKETS_US.len()],
    latency_us: Counter,
    answers: Counter,
}

impl Link {
    /// A link whose keeper runs on the current tokio runtime for as long as the link is held.
    pub(super) fn start(store: &RedisStore) -> Arc<Self> {
        let link = Arc::new(Self {
            store: store.clone(),
            script: LimitScript::new(),
            connections: ArcSwapOption::empty(),
            turn: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            since_us: AtomicU64::new(0),
            opened: Notify::new(),
            metrics: Metrics::default(),
        });
        tokio::spawn(keep(Arc::downgrade(&link), store.breaker_probe));
        link
    }

    /// Whether Redis may be asked now.
    pub(super) fn usable(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether what was counted at this time, by the server's clock in microseconds, is sure to be counted still: a
    /// server that was connected to anew may have lost it.
    pub(super) fn remembers(&self, counted_us: u64) -> bool {
        counted_us >= self.since_us.load(Ordering::Acquire)
    }

    /// Longest that anybody waits for an answer.
    pub(super) fn deadline(&self) -> Duration {
        self.store.deadline
    }

    pub(super) fn prefix(&self) -> &str {
        &self.store.prefix
    }

    pub(super) fn nodes(&self) -> u32 {
        self.store.nodes
    }

    /// Runs the script under the deadline. What was sent and not answered in time may have counted: it is not
    /// sent again.
    pub(super) async fn run(&self, arguments: &Arguments) -> Result<Value, LinkError> {
        let connections = self.connections.load_full().filter(|_| self.usable()).ok_or(LinkError::Open)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut connection = connections.get(turn % connections.len()).cloned().ok_or(LinkError::Open)?;
        let result = self.run_on(&mut connection, arguments).await;
        match &result {
            Ok(_) => self.failures.store(0, Ordering::Relaxed),
            Err(error) => self.failed(error),
        }
        result
    }

    async fn run_on(&self, connection: &mut Connection, arguments: &Arguments) -> Result<Value, LinkError> {
        let started = Instant::now();
        let work = async {
            self.metrics.commands.add();
            match connection.send(&self.script.by_hash(arguments), arguments.may_repeat()).await {
                // Not run at all: it can be sent again, with its text, which loads it there.
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.metrics.commands.add();
                    connection.send(&LimitScript::by_text(arguments), arguments.may_repeat()).await
                }
                other => other,
            }
        };
        match tokio::time::timeout(self.store.deadline, work).await {
            Ok(Ok(value)) => {
                self.metrics.answered(started.elapsed());
                Ok(value)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(LinkError::Deadline(self.store.deadline)),
        }
    }

    /// Deletes a key.
    pub(super) async fn forget(&self, text: &str) -> Result<(), LinkError> {
        let connections = self.connections.load_full().filter(|_| self.usable()).ok_or(LinkError::Open)?;
        let mut connection = connections.first().cloned().ok_or(LinkError::Open)?;
        let mut cmd = redis::cmd("DEL");
        cmd.arg(Arguments::show(&self.store.prefix, text).key());
        let sent = tokio::time::timeout(CONNECT_TIMEOUT, connection.send(&cmd, true)).await;
        sent.map_err(|_| LinkError::Deadline(CONNECT_TIMEOUT))??;
        Ok(())
    }

    fn failed(&self, error: &LinkError) {
        let lost = match error {
            LinkError::Open => return,
            LinkError::Deadline(_) => {
                self.metrics.timeouts.add();
                false
            }
            // A replica that was a master, or a connection that is gone: asking again on it is of no use.
            LinkError::Redis(e) => {
                e.is_unrecoverable_error() || e.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
            }
        };
        self.metrics.failures.add();
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if (lost || failures >= self.store.breaker_failures) && self.closed.swap(false, Ordering::AcqRel) {
            self.metrics.opened.add();
            tracing::warn!(
                error = %error,
                failures,
                "limits: Redis cannot be asked; each limit's fallback applies until it answers again"
            );
            self.opened.notify_one();
        }
    }

    /// Connects anew and runs the script on a key of its own: it must count and write, in time.
    async fn probe(&self) -> Result<(), String> {
        let mut connections = connect(&self.store).await.map_err(|e| e.to_string())?;
        for connection in &mut connections {
            let load = LimitScript::load();
            let loaded = tokio::time::timeout(CONNECT_TIMEOUT, connection.send(&load, true)).await;
            let loaded = loaded.map_err(|_| format!("loading the script took over {CONNECT_TIMEOUT:?}"))?;
            loaded.map_err(|e| e.to_string())?;
        }
        let arguments = Arguments::probe(&self.store.prefix);
        let mut since_us = 0;
        for connection in &mut connections {
            let value = self.run_on(connection, &arguments).await.map_err(|e| e.to_string())?;
            let answer = answer(&value, 1).ok_or("it answered what the script does not")?;
            since_us = answer.now_us;
        }
        self.since_us.store(since_us, Ordering::Release);
        self.connections.store(Some(Arc::new(connections)));
        self.failures.store(0, Ordering::Relaxed);
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes the link's metrics.
    pub(super) fn write_metrics(&self, out: &mut dyn Write) {
        let m = &self.metrics;
        let counters = [
            ("commands_total", "Commands sent to Redis for limits.", &m.commands),
            ("failures_total", "Commands that failed or were not answered in time.", &m.failures),
            ("timeouts_total", "Commands that were not answered in time.", &m.timeouts),
            ("breaker_opened_total", "Times that the breaker opened.", &m.opened),
        ];
        for (name, help, counter) in counters {
            let name = format!("gateway_limits_redis_{name}");
            head(out, &name, "counter", help);
            let _ = writeln!(out, "{name} {}", counter.get());
        }
        head(out, "gateway_limits_redis_breaker_open", "gauge", "1 while Redis is not asked.");
        let _ = writeln!(out, "gateway_limits_redis_breaker_open {}", u8::from(!self.usable()));
        let name = "gateway_limits_redis_latency_seconds";
        head(out, name, "histogram", "Time to an answer from Redis.");
        let mut below = 0;
        for (bound, bucket) in BUCKETS_US.iter().zip(&m.buckets) {
            below += bucket.get();
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", *bound as f64 / 1e6);
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", m.answers.get());
        let _ =
            writeln!(out, "{name}_sum {}\n{name}_count {}", m.latency_us.get() as f64 / 1e6, m.answers.get());
    }
}

impl Metrics {
    fn answered(&self, after: Duration) {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_US.iter().position(|bound| us <= *bound) {
            self.buckets[bucket].add();
        }
        self.latency_us.add_many(us);
        self.answers.add();
    }
}

/// Brings the link back whenever it is down, until nobody holds it any more.
async fn keep(link: Weak<Link>, pause: Duration) {
    let mut told = false;
    let mut ever = false;
    loop {
        let Some(held) = link.upgrade() else { return };
        if held.usable() {
            // Waiting holds no link: it wakes now and then to see whether there still is one.
            let _ = tokio::time::timeout(pause, held.opened.notified()).await;
            let down = !held.usable();
            drop(held);
            // A breaker that has opened stays open for a pause at least: a slow server must not make it flap.
            if down {
                tokio::time::sleep(pause).await;
            }
            continue;
        }
        match held.probe().await {
            Ok(()) => {
                tracing::info!("limits: {}", if ever { "Redis answers again" } else { "Redis answers" });
                (told, ever) = (false, true);
            }
            Err(error) if !told && !ever => {
                told = true;
                tracing::warn!(
                    error,
                    "limits: Redis cannot be asked; each limit's fallback applies until it answers"
                );
            }
            Err(_) => {}
        }
        let down = !held.usable();
        drop(held);
        if down {
            tokio::time::sleep(pause).await;
        }
    }
}
