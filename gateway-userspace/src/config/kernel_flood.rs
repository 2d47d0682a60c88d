//! `[kernel.flood]`: what all sources may do together.

use std::ops::RangeInclusive;

use serde::Deserialize;
use toml::Spanned;

use super::Problems;
use super::kernel::Mode;
use super::kernel_policy::{MAX_PORTS, Rate, RawRange, ranges};

/// Most new sources a second and CPU, and most new connections a second.
pub const MAX_NEW: u64 = 1_000_000_000;
/// Most packets a second of a source without a cell.
pub const MAX_HEAVY: u32 = 400_000;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawFlood {
    mode: Option<Mode>,
    new_sources: Option<Spanned<u64>>,
    heavy: Option<Spanned<u32>>,
    connections: Option<Spanned<u64>>,
    connections_burst: Option<Spanned<u64>>,
    cookies: Vec<Spanned<RawRange>>,
}

/// Defences against floods of many sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flood {
    /// As the kernel side's own when not given; never more than that.
    pub mode: Option<Mode>,
    /// Sources that a CPU tracks anew in a second; default 100,000.
    pub new_sources: u64,
    /// Packets a second of one source that is not tracked; none: no bound.
    pub heavy: Option<u32>,
    /// New TCP connections of all sources together; none: no bound.
    pub connections: Option<Rate>,
    /// TCP ports that answer with cookies beyond that; others refuse.
    pub cookies: Vec<RangeInclusive<u16>>,
}

impl Default for Flood {
    fn default() -> Self {
        Self { mode: None, new_sources: 100_000, heavy: None, connections: None, cookies: Vec::new() }
    }
}

pub(super) fn check(raw: RawFlood, problems: &mut Problems<'_>) -> Flood {
    let mut out = Flood { mode: raw.mode, ..Flood::default() };
    if let Some(new) = raw.new_sources {
        if *new.get_ref() > MAX_NEW {
            problems.at(new.span(), format!("`new_sources` must be from 0 to {MAX_NEW} a second."));
        }
        out.new_sources = new.into_inner();
    }
    out.heavy = raw.heavy.map(|heavy| {
        if !(1..=MAX_HEAVY).contains(heavy.get_ref()) {
            problems.at(heavy.span(), format!("`heavy` must be from 1 to {MAX_HEAVY} packets a second."));
        }
        heavy.into_inner()
    });
    match (raw.connections, raw.connections_burst) {
        (None, Some(burst)) => {
            problems.at(burst.span(), "`connections_burst` has no effect without `connections`.");
        }
        (Some(connections), burst) => {
            let per_second = *connections.get_ref();
            let burst_value = burst.as_ref().map_or(per_second.saturating_mul(2), |b| *b.get_ref());
            if !(1..=MAX_NEW).contains(&per_second) {
                problems
                    .at(connections.span(), format!("`connections` must be from 1 to {MAX_NEW} a second."));
            }
            if let Some(burst) = burst.filter(|b| !(1..=MAX_NEW).contains(b.get_ref())) {
                problems.at(burst.span(), format!("`connections_burst` must be from 1 to {MAX_NEW}."));
            }
            out.connections = Some(Rate { per_second, burst: burst_value.min(MAX_NEW) });
        }
        (None, None) => {}
    }
    if let (Some(first), None) = (raw.cookies.first(), out.connections) {
        problems
            .at(first.span(), "`cookies` has no effect without `connections`, which says when they begin.");
    }
    if let Some(extra) = raw.cookies.get(MAX_PORTS) {
        problems.at(extra.span(), format!("a list holds at most {MAX_PORTS} ports and ranges."));
    }
    out.cookies = ranges(raw.cookies, problems);
    out
}
