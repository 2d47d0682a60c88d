//! Numbers of connections, as Prometheus reads them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::listen::Admission;

#[derive(Debug, Default)]
pub(super) struct Numbers {
    h1: AtomicU64,
    h2: AtomicU64,
    h3: AtomicU64,
    handshakes_failed: AtomicU64,
    accepts_failed: AtomicU64,
    h2_broken: AtomicU64,
    h2_stalled: AtomicU64,
}

impl Numbers {
    pub(super) fn h1_opened(&self) {
        self.h1.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn h2_opened(&self) {
        self.h2.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn h3_opened(&self) {
        self.h3.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn h2_broken(&self) {
        self.h2_broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn h2_stalled(&self) {
        self.h2_stalled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn accept_failed(&self) {
        self.accepts_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write(&self, out: &mut dyn fmt::Write, admission: &Admission) -> fmt::Result {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let name = "gateway_http_connections_total";
        writeln!(out, "# HELP {name} Connections established, by protocol.\n# TYPE {name} counter")?;
        writeln!(
            out,
            "{name}{{protocol=\"h1\"}} {}\n{name}{{protocol=\"h2\"}} {}\n{name}{{protocol=\"h3\"}} {}",
            get(&self.h1),
            get(&self.h2),
            get(&self.h3)
        )?;
        let name = "gateway_listen_refused_connections_total";
        writeln!(
            out,
            "# HELP {name} Connections closed at once, by the bound reached.\n# TYPE {name} counter"
        )?;
        for (bound, count) in ["total", "listener", "source"].iter().zip(admission.refused()) {
            writeln!(out, "{name}{{bound=\"{bound}\"}} {count}")?;
        }
        for (name, help, kind, value) in [
            ("gateway_listen_open_connections", "Open connections.", "gauge", admission.open()),
            (
                "gateway_listen_failed_handshakes_total",
                "Connections without a good PROXY header or TLS handshake.",
                "counter",
                get(&self.handshakes_failed),
            ),
            (
                "gateway_http_h2_broken_total",
                "HTTP/2 connections that ended in an error: floods, broken frames, lost clients.",
                "counter",
                get(&self.h2_broken),
            ),
            (
                "gateway_http_h2_stalled_total",
                "HTTP/2 connections closed because the client read nothing.",
                "counter",
                get(&self.h2_stalled),
            ),
            (
                "gateway_listen_failed_accepts_total",
                "Accepts that failed, as without descriptors.",
                "counter",
                get(&self.accepts_failed),
            ),
        ] {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")?;
        }
        Ok(())
    }
}
