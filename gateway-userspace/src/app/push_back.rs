//! Clients that go on past a limit's refusals: dropped in the kernel until their quota is back.
//!
//! A request never waits for this: what the limits notice goes through a bounded channel to a task that has the ledger
//! decide. The kernel acts only on a client that is the socket's own peer, and only where the limit counts that client
//! by itself: who shares a key with others, or comes through a trusted proxy, is refused at layer 7 alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use crate::bans::{self, Action, Cause, Length, OffenceKind, Order, Origin, Scope};
use crate::client::IpNetwork;
use crate::limits::Persistence;

/// Most clients that wait to be acted on; further ones are dropped and counted, and come again with their next refusals.
const WAITING: usize = 1024;
/// The kernel acts for no shorter time.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest that the kernel acts at a time for a limit whose action is not a ban: after that the client is told again how it
/// stands, and dropped again if it goes on.
const LONGEST_UNASKED: Duration = Duration::from_hours(1);

/// The way out for clients that go on past refusals.
#[derive(Clone)]
pub struct PushBack {
    queue: Option<mpsc::Sender<Persistence>>,
    dropped: Arc<AtomicU64>,
}

impl PushBack {
    /// Spawns the task that has `bans` act; with `enabled` false nothing is ever done.
    pub fn start(bans: &bans::Handle, enabled: bool) -> Self {
        let dropped = Arc::new(AtomicU64::new(0));
        if !enabled {
            return Self { queue: None, dropped };
        }
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let bans = bans.clone();
        tokio::spawn(async move {
            while let Some(persistence) = receiver.recv().await {
                let Some(order) = order(&persistence, unix_ms()) else { continue };
                let decided = bans.ask(move |task| {
                    let now_ms = task.clock.now_ms();
                    // One that holds already, or a guarded client: nothing more to do.
                    task.engine.ledger.decide(order, now_ms).is_ok()
                });
                if decided.await.is_err() {
                    return;
                }
            }
        });
        Self { queue: Some(sender), dropped }
    }

    /// Has a client acted on. Never waits.
    pub fn tell(&self, persistence: Persistence) {
        if let Some(queue) = &self.queue
            && queue.try_send(persistence).is_err()
        {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Writes the metric.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        let name = "gateway_limits_push_back_dropped_total";
        let dropped = self.dropped.load(Relaxed);
        writeln!(
            out,
            "# HELP {name} Clients past their refusals that were not acted on.\n# TYPE {name} counter\n{name} {dropped}"
        )
    }
}

/// What is to be done about a client; `None`: nothing.
fn order(persistence: &Persistence, now_ms: u64) -> Option<Order> {
    let Persistence { client, limit, refusals, own, ban, until_reset } = persistence;
    let action = match client.kernel_target() {
        Some(_) if *own => Action::KernelBan,
        _ if *ban => Action::L7Deny,
        _ => return None,
    };
    let addr = client.addr();
    let scope = Scope::Network(IpNetwork::containing(addr, if addr.is_ipv4() { 32 } else { 64 }));
    let longest = if *ban { Duration::MAX } else { LONGEST_UNASKED };
    let length = (*until_reset).min(longest).max(SHORTEST);
    let until_ms = now_ms.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    let cause = Cause {
        offences: [(OffenceKind::Limit, u64::from(*refusals))].into(),
        first_ms: now_ms,
        last_ms: now_ms,
        subject: Some(Arc::clone(limit)),
        ..Cause::default()
    };
    Some(Order {
        id: None,
        scope,
        action,
        origin: Origin::Local,
        reason: format!("limit {limit}: went on past {refusals} refusals; until its quota is back").into(),
        scenario: None,
        cause,
        length: Length::Until(Some(until_ms)),
    })
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientId;

    #[test]
    fn whom_the_kernel_drops_and_for_how_long() {
        let addr = "192.0.2.1".parse().expect("address");
        let direct = ClientId::direct(addr);
        let behind = ClientId::behind("10.0.0.1".parse().expect("address"), addr);
        let six = ClientId::direct("2001:db8::7".parse().expect("address"));
        let (s, hour) = (Duration::from_secs, Duration::from_hours(1));
        let kernel = Some(Action::KernelBan);
        let layer_7 = Some(Action::L7Deny);
        // Client, own key, action `ban`, until the quota is back -> what, whom, how long.
        let rows = [
            (direct, true, false, s(40), kernel, "192.0.2.1", s(40)),
            (direct, true, false, s(0), kernel, "192.0.2.1", s(1)),
            (direct, true, false, hour * 24, kernel, "192.0.2.1", hour),
            (direct, true, true, hour * 24, kernel, "192.0.2.1", hour * 24),
            (six, true, false, s(9), kernel, "2001:db8::/64", s(9)),
            (direct, false, false, s(9), None, "", s(0)),
            (direct, false, true, s(9), layer_7, "192.0.2.1", s(9)),
            (behind, true, false, s(9), None, "", s(0)),
            (behind, true, true, s(9), layer_7, "192.0.2.1", s(9)),
        ];
        for (client, own, ban, until_reset, action, scope, length) in rows {
            let persistence = Persistence { client, limit: "l".into(), refusals: 10, own, ban, until_reset };
            let got = order(&persistence, 5_000);
            assert_eq!(got.as_ref().map(|o| o.action), action, "{persistence:?}");
            if let Some(order) = got {
                assert_eq!(order.scope.to_string(), scope, "{persistence:?}");
                let Length::Until(Some(until)) = order.length else { panic!("{persistence:?}: no end") };
                assert_eq!(Duration::from_millis(until - 5_000), length, "{persistence:?}");
            }
        }
    }
}
