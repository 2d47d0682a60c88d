//! The time that limits count by.

use std::time::{Duration, Instant, SystemTime};

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

    /// The same clock, so far ahead: what a host with a wrong time has.
    #[must_use]
    pub fn ahead(self, by: Duration) -> Self {
        Self { start: self.start.saturating_add(by.as_nanos() as Nanos), ..self }
    }

    /// Now.
    pub fn now(&self) -> Nanos {
        self.start + self.started.elapsed().as_nanos() as Nanos
    }

    /// The moment at which this clock reads `time`; its start for what was before.
    pub fn instant(&self, time: Nanos) -> Instant {
        self.started + Duration::from_nanos(time.saturating_sub(self.start))
    }
}
