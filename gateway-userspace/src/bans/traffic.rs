//! How much each client asks for, roughly: what an offence is weighed against.
//!
//! Forty failed requests of a scanner are all it does; of a proxy with a thousand people behind
//! it they are noise. So the request path counts every request of every client, in a sketch of
//! fixed size: two rows of counters, and a client's count is the lesser of its two. A collision
//! makes a client look busier, which errs towards mercy; the hash is keyed, so nobody can aim.
//! The request path only adds; the bans task alone turns the counts into decaying rates.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::client::IpNetwork;

/// Counters in a row; two rows.
pub const CELLS: usize = 1 << 16;
/// How often rates are turned, in milliseconds.
pub const TURN_MS: u64 = 10_000;
/// Half-life of the short rate, in milliseconds.
pub const SHORT_MS: f64 = 60_000.0;
/// Half-life of the long rate, in milliseconds.
pub const LONG_MS: f64 = 3_600_000.0;

/// The network that counts as one client: an address, in IPv6 the /64 of one line.
pub fn client_network(addr: IpAddr) -> IpNetwork {
    let addr = addr.to_canonical();
    IpNetwork::containing(addr, if addr.is_ipv4() { 32 } else { 64 })
}

/// What is left of 1 after `elapsed_ms`.
pub fn decay(elapsed_ms: u64, half_life_ms: f64) -> f64 {
    (-(elapsed_ms as f64) / half_life_ms).exp2()
}

/// Requests of one client, decayed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Requests {
    /// With a half-life of a minute.
    pub short: f64,
    /// With a half-life of an hour.
    pub long: f64,
}

/// The counters that the request path adds to.
#[derive(Debug)]
pub struct Traffic {
    rows: [Box<[AtomicU32]>; 2],
    keys: RandomState,
}

impl Traffic {
    /// Empty counters; `keys` decides which clients share one.
    pub fn new(keys: RandomState) -> Self {
        Self::with_cells(keys, CELLS)
    }

    /// As [`Traffic::new`], with this many counters in a row, at least 1.
    pub fn with_cells(keys: RandomState, cells: usize) -> Self {
        let row = || (0..cells.max(1)).map(|_| AtomicU32::new(0)).collect();
        Self { rows: [row(), row()], keys }
    }

    /// Counts one request of a client: two relaxed additions, no lock.
    pub fn seen(&self, addr: IpAddr) {
        for (row, cell) in self.rows.iter().zip(self.cells(addr)) {
            row[cell].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn cells(&self, addr: IpAddr) -> [usize; 2] {
        let hash = self.keys.hash_one(client_network(addr));
        let cells = self.rows[0].len();
        [hash as usize % cells, (hash >> 32) as usize % cells]
    }
}

/// The rates that the bans task keeps.
#[derive(Debug)]
pub struct Rates {
    short: [Box<[f32]>; 2],
    long: [Box<[f32]>; 2],
    turned_ms: u64,
}

impl Rates {
    /// Nothing known of `traffic` at `now_ms`.
    pub fn new(traffic: &Traffic, now_ms: u64) -> Self {
        let row = || vec![0.0; traffic.rows[0].len()].into_boxed_slice();
        Self { short: [row(), row()], long: [row(), row()], turned_ms: now_ms }
    }

    /// Takes the counts over when [`TURN_MS`] have gone by; else does nothing.
    pub fn turn(&mut self, traffic: &Traffic, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.turned_ms);
        if elapsed < TURN_MS {
            return;
        }
        self.turned_ms = now_ms;
        let (short_left, long_left) = (decay(elapsed, SHORT_MS) as f32, decay(elapsed, LONG_MS) as f32);
        let rows = traffic.rows.iter().zip(self.short.iter_mut().zip(self.long.iter_mut()));
        for (counts, (short, long)) in rows {
            for (count, (short, long)) in counts.iter().zip(short.iter_mut().zip(long.iter_mut())) {
                let fresh = count.swap(0, Ordering::Relaxed) as f32;
                *short = short.mul_add(short_left, fresh);
                *long = long.mul_add(long_left, fresh);
            }
        }
    }

    /// The requests of a client, those not yet turned included.
    pub fn of(&self, traffic: &Traffic, addr: IpAddr) -> Requests {
        let [a, b] = traffic.cells(addr);
        let at = |row: usize, cell: usize| {
            let fresh = f64::from(traffic.rows[row][cell].load(Ordering::Relaxed));
            (f64::from(self.short[row][cell]) + fresh, f64::from(self.long[row][cell]) + fresh)
        };
        let ((short_a, long_a), (short_b, long_b)) = (at(0, a), at(1, b));
        Requests { short: short_a.min(short_b), long: long_a.min(long_b) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_forgets() {
        let traffic = Traffic::new(RandomState::new());
        let mut rates = Rates::new(&traffic, 0);
        let addr: IpAddr = "2001:db8::1".parse().expect("address");
        let same_line: IpAddr = "2001:db8::2".parse().expect("address");
        for _ in 0..100 {
            traffic.seen(addr);
        }
        assert!((rates.of(&traffic, same_line).short - 100.0).abs() < 1e-6);
        rates.turn(&traffic, TURN_MS);
        rates.turn(&traffic, TURN_MS + 60_000);
        let left = rates.of(&traffic, addr);
        assert!((left.short - 50.0).abs() < 0.1, "{left:?}");
        assert!((98.0..100.0).contains(&left.long), "{left:?}");
        assert!(rates.of(&traffic, "192.0.2.1".parse().expect("address")).short < 100.0);
    }
}
