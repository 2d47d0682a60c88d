//! Numbers of the upstreams, as Prometheus reads them.

use std::fmt;
use std::sync::atomic::Ordering;

use super::Upstreams;
use super::health::Backend;

/// Name, help, kind, and where the number of a server comes from.
type Series = (&'static str, &'static str, &'static str, fn(&Backend) -> u64);

const SERVER_SERIES: [Series; 7] = [
    ("gateway_upstream_requests_total", "Requests sent to a server.", "counter", |b| {
        b.requests.load(Ordering::Relaxed)
    }),
    ("gateway_upstream_failures_total", "Requests that a server didn't answer.", "counter", |b| {
        b.failures.load(Ordering::Relaxed)
    }),
    ("gateway_upstream_in_flight", "Requests in flight at a server.", "gauge", |b| {
        b.in_flight.load(Ordering::Relaxed)
    }),
    ("gateway_upstream_idle_connections", "Idle connections to a server.", "gauge", |b| b.pool.idle() as u64),
    ("gateway_upstream_address_changes_total", "Times a server's name led elsewhere.", "counter", |b| {
        b.resolved.changes.load(Ordering::Relaxed)
    }),
    ("gateway_upstream_failed_lookups_total", "Lookups of a server's name that failed.", "counter", |b| {
        b.resolved.failures.load(Ordering::Relaxed)
    }),
    ("gateway_upstream_healthy", "Whether a server gets requests.", "gauge", |b| u64::from(b.is_healthy())),
];

impl Upstreams {
    /// Writes every server's numbers.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (name, help, kind, value) in SERVER_SERIES {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
            for upstream in self.iter() {
                for backend in &upstream.backends {
                    let (upstream, server) = (&upstream.config().name, &backend.server.address);
                    writeln!(
                        out,
                        "{name}{{upstream=\"{upstream}\",server=\"{server}\"}} {}",
                        value(backend)
                    )?;
                }
            }
        }
        self.by_name.write(
            out,
            "upstream",
            ("gateway_upstream_responses_total", "Answers of an upstream by class of status; none is 5xx."),
            ("gateway_upstream_response_seconds", "From sending a request to the head of its answer."),
        )?;
        writeln!(out, "# HELP gateway_upstream_retries_total Requests sent once more.")?;
        writeln!(out, "# TYPE gateway_upstream_retries_total counter")?;
        for upstream in self.iter() {
            let retries = upstream.retries.load(Ordering::Relaxed);
            writeln!(
                out,
                "gateway_upstream_retries_total{{upstream=\"{}\"}} {retries}",
                upstream.config().name
            )?;
        }
        Ok(())
    }
}
