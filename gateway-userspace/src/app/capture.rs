//! Captures of dropped packets for the command line: one at a time, fetched in parts, ended when nobody fetches.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::drops::drop_reason;
use crate::admin::ApiError;
use crate::kernel::{Captured, CapturedPacket, Kernel, interface_name};

/// A capture that nobody asks about for this long ends: its command was killed.
const LEASE: Duration = Duration::from_secs(10);
/// Most packets of one answer.
const MOST: usize = 2048;
/// Longest that an answer waits for a packet.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often the ring is looked at meanwhile: at the kernel's budget it takes longer than this to fill.
const LOOK: Duration = Duration::from_millis(10);

/// The reading end of the ring, and whose capture runs.
#[derive(Default)]
pub struct Captures {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ring: Option<Captured>,
    session: Option<Session>,
    last: u64,
}

struct Session {
    id: u64,
    /// The kernel's count of lost packets when it began.
    lost_before: u64,
    heard: Instant,
}

/// What to capture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Names of reasons.
    reasons: Vec<String>,
}

/// Which capture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    session: u64,
    #[serde(default)]
    wait_ms: u64,
}

/// Packets since the last answer.
#[derive(Debug, Serialize)]
pub struct Part {
    /// The capture.
    session: u64,
    packets: Vec<Packet>,
    /// Packets that the kernel could not copy, since the capture began.
    lost: u64,
}

#[derive(Debug, Serialize)]
struct Packet {
    at_us: u64,
    reason: &'static str,
    interface: u32,
    name: String,
    length: u32,
    /// Hexadecimal.
    data: String,
}

impl Captures {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a capture.
    ///
    /// # Errors
    /// Another one runs, or a reason is none.
    pub fn start(&self, kernel: &Kernel, wanted: &Start) -> Result<Part, ApiError> {
        let reasons = wanted.reasons.iter().map(|name| drop_reason(name)).collect::<Result<Vec<_>, _>>()?;
        let mut state = self.state();
        if state.session.as_ref().is_some_and(|session| session.heard.elapsed() < LEASE) {
            return Err(ApiError::refused(
                "another capture is under way; wait for its end, or end it with Ctrl-C",
            ));
        }
        if state.ring.is_none() {
            state.ring = kernel.captured();
        }
        // What an earlier capture left in the ring is not this one's.
        while state.ring.as_mut().and_then(Captured::next).is_some() {}
        state.last += 1;
        let id = state.last;
        let lost_before = kernel.stats().capture_lost;
        state.session = Some(Session { id, lost_before, heard: Instant::now() });
        kernel.set_capture(&reasons);
        Ok(Part { session: id, packets: Vec::new(), lost: 0 })
    }

    /// The next packets; waits for the first as long as it was asked to, at most a second.
    ///
    /// # Errors
    /// The capture has ended.
    pub async fn next(&self, kernel: &Kernel, ask: &Ask) -> Result<Part, ApiError> {
        let until = Instant::now() + Duration::from_millis(ask.wait_ms).min(LONGEST_WAIT);
        loop {
            let part = self.part(kernel, ask.session)?;
            if !part.packets.is_empty() || Instant::now() >= until {
                return Ok(part);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends a capture, with the packets that are left; ask [`next`](Self::next) no more.
    ///
    /// # Errors
    /// It has ended already.
    pub fn stop(&self, kernel: &Kernel, ask: &Ask) -> Result<Part, ApiError> {
        kernel.set_capture(&[]);
        let mut rest = self.part(kernel, ask.session)?;
        loop {
            let more = self.part(kernel, ask.session)?;
            if more.packets.is_empty() {
                break;
            }
            rest.packets.extend(more.packets);
        }
        self.state().session = None;
        Ok(rest)
    }

    /// Ends the capture that nobody asks about any more.
    pub fn expire(&self, kernel: &Kernel) {
        let mut state = self.state();
        if state.session.as_ref().is_some_and(|session| session.heard.elapsed() >= LEASE) {
            state.session = None;
            kernel.set_capture(&[]);
            tracing::warn!("a capture of dropped packets ended: nobody fetched it for {} s", LEASE.as_secs());
        }
    }

    fn part(&self, kernel: &Kernel, id: u64) -> Result<Part, ApiError> {
        let mut state = self.state();
        let State { ring, session, .. } = &mut *state;
        let Some(session) = session.as_mut().filter(|session| session.id == id) else {
            return Err(ApiError::missing("this capture has ended"));
        };
        session.heard = Instant::now();
        let mut names = BTreeMap::new();
        let mut packets = Vec::new();
        while packets.len() < MOST
            && let Some(packet) = ring.as_mut().and_then(Captured::next)
        {
            let name =
                names.entry(packet.interface).or_insert_with_key(|index| interface_name(*index)).clone();
            packets.push(written(packet, name));
        }
        let lost = kernel.stats().capture_lost.saturating_sub(session.lost_before);
        Ok(Part { session: id, packets, lost })
    }
}

fn written(packet: CapturedPacket, name: Option<String>) -> Packet {
    Packet {
        at_us: packet.at.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_micros() as u64),
        reason: packet.reason.name(),
        interface: packet.interface,
        name: name.unwrap_or_default(),
        length: packet.length,
        data: packet.data.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
