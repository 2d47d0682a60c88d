//! Logs and the metrics page. Knows nothing of what is logged or counted.

mod metrics;
mod red;
mod sparse;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::log::{Format, Log};

pub use metrics::{Registry, Source};
pub use red::{MAX_NAMED, OTHER, Red, RedByName, Series};
pub use sparse::Sparse;

/// Changes the level of a running daemon.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl LogControl {
    /// Takes the level of a configuration that was just accepted.
    pub fn set(&self, log: &Log) {
        // The only error is that the subscriber is gone, and then there is no log to change.
        let _ = self.0.reload(filter(log));
    }
}

/// Starts the log on standard error. `RUST_LOG` overrides the configured level.
///
/// # Errors
/// When a log was started already.
pub fn start(log: &Log) -> Result<LogControl, tracing_subscriber::util::TryInitError> {
    let (filter, handle) = reload::Layer::new(filter(log));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    match log.format {
        Format::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init()?,
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(LogControl(handle))
}

fn filter(log: &Log) -> EnvFilter {
    match std::env::var("RUST_LOG") {
        Ok(spec) if !spec.is_empty() => EnvFilter::new(spec),
        // rustls warns of whatever a client's handshake holds: lines that anybody can cause without bound.
        _ => EnvFilter::new(format!("{},rustls=error", log.level.as_str())),
    }
}
