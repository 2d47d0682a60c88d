//! The kernel's latest sampled drops, for `gateway xdp events`.
//!
//! The kernel samples under a budget, so this is what was dropped by example; `gateway xdp stats` counts every packet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::admin::ApiError;
use crate::kernel::{DropEvent, Reason, interface_name};

/// Drops that are kept; the oldest makes room.
const KEPT: usize = 4096;
/// Most drops of one answer.
const MOST: usize = 1000;
/// Longest that an answer waits for a drop.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often is looked meanwhile: new ones come no oftener.
const LOOK: Duration = Duration::from_millis(25);

/// The latest drops.
#[derive(Default)]
pub struct Drops {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Kept>,
    /// Number of the latest; the first is 1.
    last: u64,
}

#[derive(Clone)]
struct Kept {
    number: u64,
    at_ms: u64,
    event: DropEvent,
}

/// What somebody wants to know.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only those after this number, the oldest first; without it the latest.
    after: Option<u64>,
    /// Names of reasons; none is all.
    #[serde(default)]
    reasons: Vec<String>,
    /// How many, up to [`MOST`].
    count: Option<usize>,
    /// How long to wait for one where there is none, up to a second.
    #[serde(default)]
    wait_ms: u64,
}

/// An answer.
#[derive(Debug, Serialize)]
pub struct Page {
    /// In the order of their time.
    events: Vec<Told>,
    /// What to ask with next.
    last: u64,
    /// Drops after the one asked for that made room before they were asked for.
    missed: u64,
}

/// One drop as it is told.
#[derive(Debug, Serialize)]
struct Told {
    number: u64,
    at_ms: u64,
    interface_name: Option<String>,
    #[serde(flatten)]
    event: DropEvent,
}

/// The reason of a drop that has this name.
///
/// # Errors
/// None has.
pub fn drop_reason(name: &str) -> Result<Reason, ApiError> {
    let found = Reason::ALL.iter().find(|reason| reason.name() == name && reason.is_drop());
    found.copied().ok_or_else(|| ApiError::bad(format!("`{name}` is no reason of a drop")))
}

impl Drops {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a drop that was read at `now`.
    pub fn keep(&self, event: DropEvent, now: SystemTime) {
        let at = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(event.age);
        let mut state = self.state();
        state.last += 1;
        let kept = Kept { number: state.last, at_ms: at.as_millis() as u64, event };
        if state.kept.len() >= KEPT {
            state.kept.pop_front();
        }
        state.kept.push_back(kept);
    }

    /// The drops that are wanted; waits for the first as long as it was asked to, at most a second.
    ///
    /// # Errors
    /// A reason is none.
    pub async fn next(&self, wanted: &Wanted) -> Result<Page, ApiError> {
        wanted.reasons.iter().try_for_each(|name| drop_reason(name).map(drop))?;
        let until = Instant::now() + Duration::from_millis(wanted.wait_ms).min(LONGEST_WAIT);
        loop {
            let page = self.page(wanted);
            if !page.events.is_empty() || Instant::now() >= until {
                return Ok(page);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn page(&self, wanted: &Wanted) -> Page {
        let count = wanted.count.unwrap_or(MOST).min(MOST);
        let fits = |kept: &&Kept| {
            wanted.reasons.is_empty() || wanted.reasons.iter().any(|name| name == kept.event.reason)
        };
        let state = self.state();
        let (found, last, missed) = match wanted.after {
            None => {
                let mut found: Vec<Kept> =
                    state.kept.iter().rev().filter(fits).take(count).cloned().collect();
                found.reverse();
                (found, state.last, 0)
            }
            Some(after) => {
                // A number from before a restart is none of ours: all that is kept is new.
                let after = if after > state.last { 0 } else { after };
                let oldest = state.kept.front().map_or(state.last + 1, |kept| kept.number);
                let new = state.kept.iter().filter(|kept| kept.number > after);
                let found: Vec<Kept> = new.filter(fits).take(count).cloned().collect();
                let last = match found.last() {
                    Some(latest) if found.len() >= count => latest.number,
                    _ => state.last,
                };
                (found, last, oldest.saturating_sub(after + 1))
            }
        };
        drop(state);
        let told = |kept: Kept| Told {
            number: kept.number,
            at_ms: kept.at_ms,
            interface_name: interface_name(kept.event.interface),
            event: kept.event,
        };
        Page { events: found.into_iter().map(told).collect(), last, missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: Reason) -> DropEvent {
        DropEvent {
            age: Duration::from_millis(5),
            reason: reason.name(),
            ban_reason: None,
            dropped: true,
            source: None,
            destination: None,
            source_port: 0,
            destination_port: 0,
            protocol: 6,
            tcp_flags: 0,
            interface: 0,
            length: 60,
            matched: 0,
        }
    }

    /// Of three drops each by a port and a ban, and many more by feeds where `flood` says so.
    fn drops(flood: usize) -> Drops {
        let drops = Drops::default();
        for reason in [Reason::Port, Reason::BanHost].repeat(3) {
            drops.keep(event(reason), UNIX_EPOCH + Duration::from_secs(1));
        }
        (0..flood).for_each(|_| drops.keep(event(Reason::Feed), UNIX_EPOCH));
        drops
    }

    #[test]
    fn pages() {
        let (none, port) = ([].as_slice(), ["port".to_owned()]);
        // Drops by feeds before it, after, reasons, count -> numbers, last, missed.
        type Row<'a> = (usize, Option<u64>, &'a [String], usize, &'a [u64], u64, u64);
        let rows: [Row<'_>; 9] = [
            (0, None, none, 2, &[5, 6], 6, 0),
            (0, None, &port, 2, &[3, 5], 6, 0),
            (0, Some(0), none, 10, &[1, 2, 3, 4, 5, 6], 6, 0),
            (0, Some(3), none, 2, &[4, 5], 5, 0),
            (0, Some(3), &port, 10, &[5], 6, 0),
            (0, Some(6), none, 10, &[], 6, 0),
            (0, Some(99), none, 1, &[1], 1, 0),
            (KEPT, Some(2), none, 1, &[7], 7, 4),
            (KEPT, None, &port, 9, &[], 6 + KEPT as u64, 0),
        ];
        for (flood, after, reasons, count, numbers, last, missed) in rows {
            let wanted = Wanted { after, reasons: reasons.to_vec(), count: Some(count), ..Wanted::default() };
            let page = drops(flood).page(&wanted);
            let got: Vec<u64> = page.events.iter().map(|told| told.number).collect();
            assert_eq!((got.as_slice(), page.last, page.missed), (numbers, last, missed), "{wanted:?}");
        }
    }

    #[test]
    fn the_moment_of_the_drop_is_told_and_memory_is_bounded() {
        let drops = drops(3 * KEPT);
        assert_eq!(drops.state().kept.len(), KEPT);
        let first = Drops::default();
        first.keep(event(Reason::Port), UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(first.page(&Wanted::default()).events[0].at_ms, 995);
    }

    #[tokio::test]
    async fn a_reason_that_is_none_is_refused() {
        let wanted = Wanted { reasons: vec!["clean".to_owned()], ..Wanted::default() };
        let refused = Drops::default().next(&wanted).await.expect_err("refused");
        assert_eq!(refused.to_string(), "`clean` is no reason of a drop");
    }
}
