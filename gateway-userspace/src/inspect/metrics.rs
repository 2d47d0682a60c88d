//! Numbers of the inspection, as Prometheus reads them.

use std::fmt;
use std::sync::atomic::Ordering;

use super::Inspector;

impl Inspector {
    /// Writes the inspection's numbers.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (name, help, kind, value) in [
            ("gateway_inspect_requests_total", "Requests that rules looked at.", "counter", &self.requests),
            ("gateway_inspect_refused_total", "Requests that rules refused.", "counter", &self.refused),
            ("gateway_inspect_detected_total", "Requests that would be refused.", "counter", &self.detected),
            ("gateway_inspect_microseconds_total", "Time spent in rules.", "counter", &self.micros),
            (
                "gateway_inspect_held_bytes",
                "Bytes of bodies under inspection.",
                "gauge",
                &self.holding.memory,
            ),
        ] {
            let value = value.load(Ordering::Relaxed);
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")?;
        }
        let spool = &self.holding.spool;
        for (name, help, kind, value) in [
            (
                "gateway_inspect_spooled_bytes",
                "Bytes of bodies in temporary storage.",
                "gauge",
                spool.bytes(),
            ),
            ("gateway_inspect_spooled_files", "Files in temporary storage.", "gauge", spool.files()),
            (
                "gateway_inspect_spool_refused_total",
                "Bodies that the storage had no room for.",
                "counter",
                spool.refused(),
            ),
        ] {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")?;
        }
        Ok(())
    }
}
