//! The engine of this project, driven as the peer is.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};

use gateway_waf::{Connection, Ruleset, Services, Transaction};

use super::cases::Case;
use crate::crs::front::Request;

/// Swept to empty the caches: larger than the last level of a usual machine.
const SWEEP_BYTES: usize = 64 << 20;

/// One reused transaction under a rule set.
pub struct Engine {
    transaction: Transaction,
    sweep: Vec<u8>,
}

impl Engine {
    /// An engine under `ruleset`.
    pub fn new(ruleset: Ruleset) -> Self {
        Self { transaction: Transaction::new(Arc::new(ruleset), Services::default()), sweep: Vec::new() }
    }

    /// Nanoseconds of `runs` runs of all requests of the case.
    pub fn hot(&mut self, case: &Case, runs: u32) -> u64 {
        let started = cpu_nanos();
        for _ in 0..runs {
            for request in &case.requests {
                self.run(request);
            }
        }
        cpu_nanos() - started
    }

    /// The same with the caches swept before each run; the sweep does not count.
    pub fn cold(&mut self, case: &Case, runs: u32) -> u64 {
        self.sweep.resize(SWEEP_BYTES, 1);
        let mut total = 0;
        for _ in 0..runs {
            for at in (0..SWEEP_BYTES).step_by(64) {
                self.sweep[at] = self.sweep[at].wrapping_add(1);
            }
            black_box(&self.sweep);
            total += self.hot(case, 1);
        }
        total
    }

    fn run(&mut self, request: &Request) {
        let tx = &mut self.transaction;
        tx.begin(&Connection {
            client: SocketAddr::from(([192, 0, 2, 10], 40_000)),
            server: SocketAddr::from(([192, 0, 2, 1], 80)),
            unix_nanos: 1_700_000_000_000_000_000,
            utc_offset_seconds: 0,
            unique_id: "bench-transaction-0001",
            web_app_id: "",
        });
        tx.request_line(&request.method, &request.uri, &request.protocol);
        for (name, value) in &request.headers {
            tx.request_header(name, value);
        }
        tx.request_headers();
        if !request.body.is_empty() && tx.wants_request_body() {
            tx.write_request_body(&request.body);
        }
        tx.request_body();
        tx.response_line(200, b"HTTP/1.1", b"");
        tx.response_header(b"Content-Type", b"text/html");
        tx.response_header(b"Content-Length", b"0");
        tx.response_headers();
        tx.response_body();
        tx.logging(1_700_000_000_000_100_000);
        black_box(tx.matches());
    }
}

/// Processor time of this thread: other processes on the machine do not count into it.
pub fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
