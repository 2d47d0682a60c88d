//! The pipeline's numbers, as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::Pipeline;
use crate::respond::Denial;

/// Upper bounds of the histogram's buckets, microseconds.
const BUCKETS: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000, 10_000_000];

#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// By hundreds: 1xx to 5xx.
    classes: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    sent: AtomicU64,
    /// By code; the codes are a closed set.
    denials: Mutex<BTreeMap<&'static str, u64>>,
}

impl Numbers {
    pub(super) fn finished(&self, status: StatusCode, took: Duration, sent: u64) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        let micros = took.as_micros() as u64;
        let bucket = BUCKETS.iter().position(|b| micros <= *b).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }

    pub(super) fn denied(&self, denial: &Denial) {
        *self.denials.lock().unwrap_or_else(PoisonError::into_inner).entry(denial.code()).or_insert(0) += 1;
    }

    fn write(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        writeln!(out, "# HELP gateway_http_responses_total Responses by class of status.")?;
        writeln!(out, "# TYPE gateway_http_responses_total counter")?;
        for (i, class) in self.classes.iter().enumerate() {
            writeln!(out, "gateway_http_responses_total{{class=\"{}xx\"}} {}", i + 1, get(class))?;
        }
        writeln!(out, "# HELP gateway_http_denied_total Requests that the gateway refused, by code.")?;
        writeln!(out, "# TYPE gateway_http_denied_total counter")?;
        let denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (code, count) in denials {
            writeln!(out, "gateway_http_denied_total{{code=\"{code}\"}} {count}")?;
        }
        let name = "gateway_http_request_seconds";
        writeln!(
            out,
            "# HELP {name} From a request's head to the end of its response.\n# TYPE {name} histogram"
        )?;
        let mut sum = 0;
        for (i, bucket) in self.buckets.iter().enumerate() {
            sum += get(bucket);
            match BUCKETS.get(i) {
                Some(bound) => writeln!(out, "{name}_bucket{{le=\"{}\"}} {sum}", *bound as f64 / 1e6)?,
                None => writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {sum}")?,
            }
        }
        writeln!(out, "{name}_sum {}\n{name}_count {sum}", get(&self.micros) as f64 / 1e6)?;
        let name = "gateway_http_sent_bytes_total";
        writeln!(
            out,
            "# HELP {name} Bytes of response bodies.\n# TYPE {name} counter\n{name} {}",
            get(&self.sent)
        )
    }
}

impl Pipeline {
    /// Writes the numbers of requests, inspection and upstreams.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.numbers.write(out)?;
        self.inspector.metrics(out)?;
        self.site.load().upstreams.metrics(out)
    }
}
