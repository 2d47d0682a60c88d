//! How a gateway that runs tells of itself: a line, `gateway status`, the metrics page.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use serde_json::json;

use super::kernel;
use super::parts::Running;
use crate::http::Server;
use crate::telemetry::Registry;

impl Running {
    /// One line on what runs.
    pub fn summary(&self) -> String {
        let listeners: Vec<String> = self
            .config
            .edge
            .listeners
            .iter()
            .map(|l| format!("{}://{}", if l.tls { "https" } else { "http" }, l.address))
            .collect();
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = match attached.as_slice() {
            [] => "no kernel side".to_owned(),
            attached => attached
                .iter()
                .map(|a| format!("XDP on {} ({:?})", a.interface, a.mode).to_lowercase())
                .collect::<Vec<_>>()
                .join(", "),
        };
        format!("serving {} with {} workers; {kernel}", listeners.join(", "), self.config.server.workers)
    }

    /// How everything is, for `gateway status`.
    pub fn status(&self) -> serde_json::Value {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let kernel = self.kernel.as_ref().map(|k| {
            json!({
                "interfaces": attached,
                "adopted": k.adopted(),
                "pin": k.pin_folder(),
                "bans": k.bans().len(),
                "stats": k.stats(),
                "writer": self.bans.kernel_health().map_or_else(|e| e.to_string(), |()| "ok".to_owned()),
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "phase": self.health.phase(),
            "uptime_s": self.started.elapsed().as_secs(),
            "config": self.file.as_ref().map_or_else(|| "embedded defaults".into(), |f| f.display().to_string()),
            "listeners": self.config.edge.listeners.iter().map(|l| json!({
                "name": l.name, "address": l.address, "tls": l.tls,
            })).collect::<Vec<_>>(),
            "connections": server.as_ref().map_or(0, Server::connections),
            "certificates": self.certificates.status(),
            "kernel": kernel,
            "cluster": self.cluster.as_ref().map(|c| c.last_error().map_or("connected".into(), |e| e.to_string())),
            "crowdsec": self.crowdsec.as_ref().map(|c| json!({
                "state": c.last_error().map_or("connected".into(), |e| e.to_string()),
                "followed": c.followed.load(Relaxed),
                "left_out": c.left_out.load(Relaxed),
                "told": c.reported.told.load(Relaxed),
                "taken_back": c.reported.taken_back.load(Relaxed),
                "not_told": c.reported.lost.load(Relaxed),
            })),
            "feeds": self.feeds.as_ref().map(|f| f.statuses()),
        })
    }

    /// What `/metrics` shows.
    pub fn registry(self: &Arc<Self>) -> Registry {
        let mut registry = Registry::default();
        let running = Arc::clone(self);
        registry.add(move |out| running.own_metrics(out));
        let running = Arc::clone(self);
        registry.add(move |out| running.pipeline.metrics(out));
        let running = Arc::clone(self);
        registry.add(move |out| running.access.metrics(out));
        let running = Arc::clone(self);
        registry.add(move |out| running.audit.metrics(out));
        let running = Arc::clone(self);
        registry.add(move |out| {
            running.limiter.metrics(out);
            running.push_back.metrics(out)
        });
        let running = Arc::clone(self);
        registry.add(move |out| {
            running.bans.metrics(out)?;
            running.cluster.as_ref().map_or(Ok(()), |cluster| cluster.metrics(out))
        });
        let running = Arc::clone(self);
        registry.add(move |out| running.kernel.as_ref().map_or(Ok(()), |k| kernel::metrics(k, out)));
        registry
    }

    fn own_metrics(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        writeln!(
            out,
            "# HELP gateway_info The version that runs.\n# TYPE gateway_info gauge\n\
             gateway_info{{version=\"{}\"}} 1\n\
             # HELP gateway_uptime_seconds Time since the start.\n# TYPE gateway_uptime_seconds gauge\n\
             gateway_uptime_seconds {}",
            env!("CARGO_PKG_VERSION"),
            self.started.elapsed().as_secs()
        )?;
        self.certificates.metrics(out)?;
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map_or(Ok(()), |server| server.metrics(out))
    }
}
