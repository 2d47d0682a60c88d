//! How slowly a peer may be: a longest pause, and a least rate.

use std::time::{Duration, Instant};

/// Watches one direction of a body. Only time spent waiting for the peer counts: what the other side or we ourselves
/// take is not held against it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pause: Duration,
    /// Bytes a second; 0: any.
    rate: u64,
    moved: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// At most `pause` at a time, and on average `rate` bytes a second past the first `pause`.
    pub fn new(pause: Duration, rate: u64) -> Self {
        Self { pause, rate, moved: 0, waited: Duration::ZERO, since: None }
    }

    /// A new body begins.
    pub fn restart(&mut self) {
        *self = Self::new(self.pause, self.rate);
    }

    /// We wait for the peer from `now` on; when the wait is over at the latest. `None` when that is known already.
    pub fn wait(&mut self, now: Instant) -> Option<Instant> {
        if self.since.is_some() {
            return None;
        }
        self.since = Some(now);
        let left = match self.rate {
            0 => self.pause,
            rate => {
                let earned = Duration::from_millis(self.moved.saturating_mul(1000) / rate);
                (self.pause + earned).saturating_sub(self.waited)
            }
        };
        Some(now + self.pause.min(left))
    }

    /// The peer took or gave `bytes`.
    pub fn moved(&mut self, now: Instant, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.moved = self.moved.saturating_add(bytes as u64);
    }

    /// As [`Pace::moved`], when nobody had to wait: without asking the clock.
    pub fn moved_at_once(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
    }

    /// Whether the peer is being waited for.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step: milliseconds that the peer takes, then bytes. The number of steps that are let through.
    fn steps(rate: u64, step_ms: u64, bytes: usize) -> usize {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(10), rate);
        let mut now = start;
        for n in 0..1000 {
            let deadline = pace.wait(now).expect("not waiting yet");
            assert!(pace.wait(now).is_none() && pace.is_waiting());
            now += Duration::from_millis(step_ms);
            if now > deadline {
                return n;
            }
            pace.moved(now, bytes);
            // What we do in between is not the peer's time.
            now += Duration::from_secs(100);
        }
        1000
    }

    #[test]
    fn pauses_and_rates() {
        for (rate, step_ms, bytes, expected) in [
            (0, 9_000, 1, 1000),
            (0, 11_000, 1, 0),
            (100, 5_000, 1, 2),
            (100, 1_000, 100, 1000),
            (100, 1_000, 50, 19),
            (100, 11_000, 1_000_000, 0),
        ] {
            assert_eq!(steps(rate, step_ms, bytes), expected, "{bytes} bytes in {step_ms} ms at {rate}/s");
        }
    }
}
