//! The time that limits count by.

use std::time::{Instant, SystemTime};

use super::window::Nanos;

/// Wall-clock time at the start, monotonic from there on: a clock that is set never moves a window.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Nanos,
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: since_epoch.as_nanos() as Nanos, started: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Nanos {
        self.start + self.started.elapsed().as_nanos() as Nanos
    }
}
