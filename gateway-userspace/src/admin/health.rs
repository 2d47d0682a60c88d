//! Whether the daemon lives, and whether it should get traffic.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Where the daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Phase {
    /// Not listening yet.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Asked to stop: finishes what it has, takes nothing new from load balancers.
    Draining = 2,
}

/// The phase, shared between the life of the daemon and the health checks.
#[derive(Debug, Default)]
pub struct Health(AtomicU8);

impl Health {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.0.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Goes to another phase.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }
}
