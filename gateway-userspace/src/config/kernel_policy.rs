//! `[kernel.limits]` and `[kernel.ports]`: what one source may send, and what may be reached.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Problems, Size, Span};
use crate::client::IpNetwork;

/// Most entries of `overrides`, and most networks in all of them.
pub const MAX_OVERRIDES: usize = 63;
/// Most networks in all overrides together.
pub const MAX_OVERRIDE_NETWORKS: usize = 4096;
/// Most entries of each list of ports, types or protocols.
pub const MAX_PORTS: usize = 4096;
/// Highest rate a second.
pub const MAX_RATE: u64 = 100_000_000_000;

/// `[kernel.limits]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    packets: Option<Spanned<u64>>,
    packets_burst: Option<Spanned<u64>>,
    bytes: Option<Spanned<Size>>,
    bytes_burst: Option<Spanned<Size>>,
    connections: Option<Spanned<u64>>,
    connections_burst: Option<Spanned<u64>>,
    bar: Option<Spanned<RawBar>>,
    overrides: Vec<Spanned<RawOverride>>,
}

/// `[kernel.limits.bar]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBar {
    violations: u32,
    within: Span,
    lasting: Span,
}

/// `[[kernel.limits.overrides]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOverride {
    networks: Vec<IpNetwork>,
    packets: Option<u64>,
    packets_burst: Option<u64>,
    bytes: Option<Size>,
    bytes_burst: Option<Size>,
    connections: Option<u64>,
    connections_burst: Option<u64>,
}

/// A rate with its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units a second, 1 to 100,000,000,000.
    pub per_second: u64,
    /// Units at once after a pause; default: twice the rate.
    pub burst: u64,
}

/// What one source (an IPv4 address, an IPv6 /64) may send; none: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceLimits {
    /// Packets.
    pub packets: Option<Rate>,
    /// Bytes of frames.
    pub bytes: Option<Rate>,
    /// TCP connections opened.
    pub connections: Option<Rate>,
}

/// A time barred for who goes on past the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Packets over a limit that are forgiven.
    pub violations: u32,
    /// Within this time.
    pub within: Duration,
    /// How long the bar lasts, at most 1 h.
    pub lasting: Duration,
}

/// Limits for each source in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// For everyone; default none.
    pub everyone: SourceLimits,
    /// After how many violations a source is barred; default never.
    pub bar: Option<Bar>,
    /// For networks, in place of those for everyone; the longest prefix counts.
    pub overrides: Vec<(Vec<IpNetwork>, SourceLimits)>,
}

pub(super) fn check_limits(raw: RawLimits, problems: &mut Problems<'_>) -> Limits {
    let bytes = |s: Option<Spanned<Size>>| s.map(|s| Spanned::new(s.span(), s.get_ref().0));
    let everyone = SourceLimits {
        packets: rate("packets", raw.packets, raw.packets_burst, 1, problems),
        bytes: rate("bytes", bytes(raw.bytes), bytes(raw.bytes_burst), 65_536, problems),
        connections: rate("connections", raw.connections, raw.connections_burst, 1, problems),
    };
    let bar = raw.bar.map(|bar| {
        let span = bar.span();
        let RawBar { violations, within, lasting } = bar.into_inner();
        if within.0.is_zero() || lasting.0.is_zero() || lasting.0 > Duration::from_hours(1) {
            problems.at(span, "`bar` needs `within` and `lasting` over 0, and `lasting` of at most 1h.");
        }
        Bar { violations, within: within.0, lasting: lasting.0 }
    });
    if let Some(extra) = raw.overrides.get(MAX_OVERRIDES) {
        problems.at(extra.span(), format!("at most {MAX_OVERRIDES} overrides are possible."));
    }
    let mut networks = 0;
    let mut overrides = Vec::with_capacity(raw.overrides.len());
    for entry in raw.overrides {
        let span = entry.span();
        let entry = entry.into_inner();
        networks += entry.networks.len();
        if entry.networks.is_empty() || networks > MAX_OVERRIDE_NETWORKS {
            problems.at(
                span.clone(),
                format!("an override needs `networks`; all together hold at most {MAX_OVERRIDE_NETWORKS}."),
            );
        }
        let at = |value: Option<u64>| value.map(|v| Spanned::new(span.clone(), v));
        let limits = SourceLimits {
            packets: rate("packets", at(entry.packets), at(entry.packets_burst), 1, problems),
            bytes: rate(
                "bytes",
                at(entry.bytes.map(|s| s.0)),
                at(entry.bytes_burst.map(|s| s.0)),
                65_536,
                problems,
            ),
            connections: rate("connections", at(entry.connections), at(entry.connections_burst), 1, problems),
        };
        overrides.push((entry.networks, limits));
    }
    Limits { everyone, bar, overrides }
}

fn rate(
    name: &str,
    per_second: Option<Spanned<u64>>,
    burst: Option<Spanned<u64>>,
    least_burst: u64,
    problems: &mut Problems<'_>,
) -> Option<Rate> {
    let Some(per_second) = per_second else {
        if let Some(burst) = burst {
            problems.at(burst.span(), format!("`{name}_burst` has no effect without `{name}`."));
        }
        return None;
    };
    let value = *per_second.get_ref();
    if !(1..=MAX_RATE).contains(&value) {
        problems.at(per_second.span(), format!("`{name}` must be from 1 to {MAX_RATE} a second."));
    }
    let burst_value = burst.as_ref().map_or(value.saturating_mul(2).max(least_burst), |b| *b.get_ref());
    if let Some(burst) = burst.filter(|_| !(least_burst..=MAX_RATE).contains(&burst_value)) {
        problems.at(burst.span(), format!("`{name}_burst` must be from {least_burst} to {MAX_RATE}."));
    }
    Some(Rate { per_second: value, burst: burst_value })
}

/// What is reached when nothing is said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultPolicy {
    /// Everything that is not closed.
    #[default]
    Open,
    /// Only what is open; replies to this host, ICMP errors and neighbour discovery stay.
    Closed,
}

/// `[kernel.ports]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPorts {
    default: DefaultPolicy,
    open: RawSet,
    closed: RawSet,
    management: Option<Spanned<Vec<u16>>>,
}

/// Ports, ICMP types and protocols as written: numbers, or ranges such as `"8000-8099"`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSet {
    tcp: Vec<Spanned<RawRange>>,
    udp: Vec<Spanned<RawRange>>,
    icmp: Vec<u8>,
    icmp6: Vec<u8>,
    protocols: Vec<u8>,
}

/// A port or a range of ports.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum RawRange {
    /// A number.
    One(u16),
    /// A range.
    Text(String),
}

/// Ports, ICMP types and IP protocols.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSet {
    /// TCP ports.
    pub tcp: Vec<RangeInclusive<u16>>,
    /// UDP ports.
    pub udp: Vec<RangeInclusive<u16>>,
    /// ICMP types.
    pub icmp: Vec<u8>,
    /// ICMPv6 types.
    pub icmp6: Vec<u8>,
    /// IP protocols other than TCP, UDP and ICMP.
    pub protocols: Vec<u8>,
}

/// What may be reached on this host, as the kernel side enforces it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Default open.
    pub default: DefaultPolicy,
    /// Open though the default is closed.
    pub open: PortSet,
    /// Closed though the default is open.
    pub closed: PortSet,
    /// TCP ports that no policy closes; default 22.
    pub management: Vec<u16>,
}

pub(super) fn check_ports(raw: RawPorts, problems: &mut Problems<'_>) -> Ports {
    let management = raw.management.map_or_else(
        || vec![22],
        |list| {
            if list.get_ref().len() > MAX_PORTS {
                problems.at(list.span(), format!("`management` holds at most {MAX_PORTS} ports."));
            }
            list.into_inner()
        },
    );
    Ports {
        default: raw.default,
        open: set(raw.open, problems),
        closed: set(raw.closed, problems),
        management,
    }
}

fn set(raw: RawSet, problems: &mut Problems<'_>) -> PortSet {
    let mut checked = |list: Vec<Spanned<RawRange>>| {
        if let Some(extra) = list.get(MAX_PORTS) {
            problems.at(extra.span(), format!("a list holds at most {MAX_PORTS} ports and ranges."));
        }
        ranges(list, problems)
    };
    let (tcp, udp) = (checked(raw.tcp), checked(raw.udp));
    PortSet { tcp, udp, icmp: raw.icmp, icmp6: raw.icmp6, protocols: raw.protocols }
}

/// Ports and ranges of ports, checked.
pub(super) fn ranges(list: Vec<Spanned<RawRange>>, problems: &mut Problems<'_>) -> Vec<RangeInclusive<u16>> {
    list.into_iter()
        .map(|entry| {
            let span = entry.span();
            let parsed = match entry.into_inner() {
                RawRange::One(port) => Some(port..=port),
                RawRange::Text(text) => text.split_once('-').and_then(|(low, high)| {
                    let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
                    (low <= high).then_some(low..=high)
                }),
            };
            parsed.unwrap_or_else(|| {
                problems.at(span, "write a port such as 443, or a range such as \"8000-8099\".");
                0..=0
            })
        })
        .collect()
}
