//! `[kernel.capacity]`: how much the kernel's tables hold. Kernel memory is taken for all of it at the start.

use std::ops::{Range, RangeInclusive};

use serde::Deserialize;
use toml::Spanned;

use super::{Problems, bans, kernel};

/// Least and most entries of each table.
pub const BOUNDS: RangeInclusive<u32> = 1_000..=16_000_000;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCapacity {
    hosts: Option<Spanned<u32>>,
    wide: Option<Spanned<u32>>,
    sources: Option<Spanned<u32>>,
    feed_hosts: Option<Spanned<u32>>,
    feed_wide: Option<Spanned<u32>>,
}

/// How much the kernel's tables hold; each [`BOUNDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Banned IPv4 hosts; default 1,000,000.
    pub hosts: u32,
    /// Banned IPv6 hosts and pieces of prefixes; default 1,000,000.
    pub wide: u32,
    /// Sources under limits at once, times the kinds of limits; default 400,000.
    pub sources: u32,
    /// IPv4 hosts of feeds; default 1,000,000.
    pub feed_hosts: u32,
    /// IPv6 hosts and pieces of prefixes of feeds; default 250,000.
    pub feed_wide: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            hosts: 1_000_000,
            wide: 1_000_000,
            sources: 400_000,
            feed_hosts: 1_000_000,
            feed_wide: 250_000,
        }
    }
}

pub(super) fn check(raw: RawCapacity, problems: &mut Problems<'_>) -> Capacity {
    let mut entries = |name: &str, value: Option<Spanned<u32>>, default: u32| {
        let Some(value) = value else { return default };
        if !BOUNDS.contains(value.get_ref()) {
            let (least, most) = (BOUNDS.start(), BOUNDS.end());
            problems
                .at(value.span(), format!("`{name}` is from {least} to {most} entries; default {default}."));
        }
        value.into_inner()
    };
    let default = Capacity::default();
    Capacity {
        hosts: entries("hosts", raw.hosts, default.hosts),
        wide: entries("wide", raw.wide, default.wide),
        sources: entries("sources", raw.sources, default.sources),
        feed_hosts: entries("feed_hosts", raw.feed_hosts, default.feed_hosts),
        feed_wide: entries("feed_wide", raw.feed_wide, default.feed_wide),
    }
}

/// Refuses what other sections may hand to the kernel beyond what its tables hold. `max_decisions_at` is the place of
/// that key, where it is written.
pub(super) fn contradictions(
    kernel: &kernel::Kernel,
    bans: &bans::Bans,
    max_decisions_at: Option<Range<usize>>,
    problems: &mut Problems<'_>,
) {
    if kernel.interfaces.is_empty() {
        return;
    }
    let Capacity { hosts, wide, feed_hosts, .. } = kernel.capacity;
    let mut tell = |place: Option<Range<usize>>, sentence: String| match place {
        Some(span) => problems.at(span, sentence),
        None => problems.whole(sentence),
    };
    let holds = hosts.min(wide) as usize;
    if bans.max_decisions > holds {
        let wanted = bans.max_decisions;
        tell(
            max_decisions_at,
            format!(
                "[bans] `max_decisions` is {wanted}, but the kernel's tables hold {hosts} IPv4 hosts and {wide} IPv6 and \
                 prefixes: raise `hosts` and `wide` of [kernel.capacity] to {wanted}, or lower `max_decisions` to {holds}."
            ),
        );
    }
    for feed in bans.feeds.iter().filter(|feed| feed.action == bans::Action::KernelBan) {
        if feed.max_entries > feed_hosts as usize {
            tell(
                None,
                format!(
                    "feed `{}` may have {} entries, but the kernel's feed table holds {feed_hosts}: raise `feed_hosts` of \
                     [kernel.capacity], or lower the feed's `max_entries`.",
                    feed.name, feed.max_entries
                ),
            );
        }
    }
}
