//! `[server]`: worker threads and draining.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Problems, Span};

/// Most worker threads.
pub const MAX_WORKERS: usize = 256;
/// CPUs that can be named: 0 to one less (CPU_SETSIZE of sched_setaffinity(2)).
pub const MAX_CPUS: usize = 1024;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    workers: Option<Spanned<usize>>,
    drain: Option<Spanned<Span>>,
    cpus: Option<Spanned<Vec<usize>>>,
}

/// Worker threads and draining.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Threads that accept and serve; default: one a core.
    pub workers: usize,
    /// How long connections may finish after SIGTERM; default 30 s, at most 1 h.
    pub drain: Duration,
    /// The CPUs that workers are pinned to, one after the other; default none: the kernel places them. 0 to 1,023.
    pub cpus: Vec<usize>,
}

pub(super) fn check(raw: Raw, problems: &mut Problems<'_>) -> Server {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = match raw.workers {
        None => cores.min(MAX_WORKERS),
        Some(n) if (1..=MAX_WORKERS).contains(n.get_ref()) => n.into_inner(),
        Some(n) => {
            problems.at(
                n.span(),
                format!("`workers` must be from 1 to {MAX_WORKERS}; leave it out for one a core."),
            );
            1
        }
    };
    let drain = match raw.drain {
        None => Duration::from_secs(30),
        Some(d) if d.get_ref().0 <= Duration::from_hours(1) => d.into_inner().0,
        Some(d) => {
            problems.at(d.span(), "`drain` may be at most 1h: a restart would wait that long.");
            Duration::ZERO
        }
    };
    let cpus = raw.cpus.map_or_else(Vec::new, |list| {
        let names = list.get_ref();
        if names.is_empty() || names.len() > MAX_WORKERS || names.iter().any(|cpu| *cpu >= MAX_CPUS) {
            problems.at(
                list.span(),
                format!(
                    "`cpus` lists 1 to {MAX_WORKERS} CPUs from 0 to {}; `lscpu -e` shows them.",
                    MAX_CPUS - 1
                ),
            );
        }
        list.into_inner()
    });
    Server { workers, drain, cpus }
}
