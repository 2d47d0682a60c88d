//! The kernel side: opened and attached as configured, and the bans' hand on it.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::error::AppError;
use super::privileges;
use crate::bans::BanReason as Origin;
use crate::bans::{BanChange, KernelBan, KernelError as WriteError, KernelLists, KernelWriter, Shortcut};
use crate::client::IpNetwork;
use crate::config::{self, kernel_policy};
use crate::kernel::{
    self, AttachMode, Attachment, BanReason, Bar, Cookies, Expiry, FloodLimits, InterfaceConfig, Kernel,
    KernelConfig, KernelError, Mode, Modes, Part, PortPolicy, PortSet, Rate, SourceLimits, Target,
};

/// Mounts the BPF file system where it is missing, while this is still allowed.
///
/// # Errors
/// Without the capabilities that the kernel side needs.
pub fn prepare(config: &config::kernel::Kernel) -> Result<(), AppError> {
    if config.interfaces.is_empty() {
        return Ok(());
    }
    let ready = if privileges::may_use_bpf() {
        kernel::prepare_root(&config.pin).map_err(AppError::from)
    } else {
        Err(AppError::NoBpf)
    };
    // Where it may be missing, `open` says that it is.
    if config.required { ready } else { Ok(()) }
}

/// The kernel side, and where it is attached.
pub type Opened = (Arc<Kernel>, Vec<Attachment>);

/// Opens the kernel side and attaches it; `None` where no interface is configured, or where it can't be had and is not
/// required.
///
/// # Errors
/// As the kernel side says.
pub fn open(config: &config::kernel::Kernel, protected: &[IpNetwork]) -> Result<Option<Opened>, AppError> {
    if config.interfaces.is_empty() {
        return Ok(None);
    }
    match open_required(config, protected) {
        Ok(opened) => Ok(Some(opened)),
        Err(
            error @ (AppError::NoBpf
            | AppError::Kernel(KernelError::Unsupported { .. } | KernelError::Privileges { .. })),
        ) if !config.required => {
            tracing::warn!(
                "serving without the kernel side, which [kernel] required = false allows: {error}"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn open_required(config: &config::kernel::Kernel, protected: &[IpNetwork]) -> Result<Opened, AppError> {
    if !privileges::may_use_bpf() {
        return Err(AppError::NoBpf);
    }
    let capacity = config.capacity;
    let kernel = Kernel::open(&KernelConfig {
        pin_root: config.pin.clone(),
        capacity_hosts: capacity.hosts,
        capacity_wide: capacity.wide,
        capacity_sources: capacity.sources,
        capacity_feed_hosts: capacity.feed_hosts,
        capacity_feed_wide: capacity.feed_wide,
        ..KernelConfig::default()
    })?;
    match kernel.carried() {
        Some(carried) if carried.unreadable => tracing::warn!(
            from = carried.from,
            "the kernel's tables of an earlier version can't be read: bans come back from the ledger"
        ),
        Some(carried) => tracing::info!(
            from = carried.from,
            bans = carried.bans,
            feeds = carried.feeds,
            "bans carried over into new kernel tables"
        ),
        None => {}
    }
    kernel.set_allowlist(&targets(&config.allow), &targets(protected))?;
    let own = |mode| match mode {
        config::kernel::Mode::Off => Mode::Off,
        config::kernel::Mode::Observe => Mode::Observe,
        config::kernel::Mode::Enforce => Mode::Enforce,
    };
    let parts = [
        (Part::Bans, config.modes.bans),
        (Part::Feeds, config.modes.feeds),
        (Part::Ports, config.modes.ports),
        (Part::Limits, config.modes.limits),
        (Part::Flood, config.modes.flood),
        (Part::Malformed, config.modes.malformed),
    ];
    kernel.set_modes(parts.into_iter().fold(Modes::OFF, |modes, (part, mode)| modes.with(part, own(mode))));
    kernel.heartbeat();
    apply_policy(&kernel, config)?;
    let mode = match config.attach {
        config::kernel::Attach::Auto => AttachMode::Auto,
        config::kernel::Attach::Native => AttachMode::Native,
        config::kernel::Attach::Generic => AttachMode::Generic,
    };
    let wanted: Vec<InterfaceConfig> =
        config.interfaces.iter().map(|name| InterfaceConfig { name: name.clone(), mode }).collect();
    let (attached, detached) = kernel.take_over(&wanted)?;
    for attachment in &attached {
        tracing::info!(interface = attachment.interface, mode = ?attachment.mode, "XDP: {}", attachment.reason);
        if !config.flood.cookies.is_empty()
            && attachment.mode != AttachMode::Generic
            && kernel::is_veth(attachment.index)
        {
            tracing::warn!(
                "{} is a veth: answers with cookies of `kernel.flood` arrive only if an XDP program is attached to its other \
                 end, or with [kernel] attach = \"generic\"",
                attachment.interface
            );
        }
    }
    if !detached.is_empty() {
        tracing::warn!(interfaces = ?detached, "the program is off these: [kernel] interfaces does not name them");
    }
    Ok((Arc::new(kernel), attached))
}

/// Takes the program off the interfaces that had none before, unless told that there is no need.
pub struct GiveUp(Option<Arc<Kernel>>);

impl GiveUp {
    /// For a kernel side that has just been opened.
    pub fn new(kernel: &Arc<Kernel>) -> Self {
        Self(Some(Arc::clone(kernel)))
    }

    /// All went well.
    pub fn never_mind(mut self) {
        self.0 = None;
    }
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        if let Some(kernel) = &self.0 {
            kernel.give_up();
        }
    }
}

/// Writes limits and port policy.
///
/// # Errors
/// When a value is out of the kernel side's bounds.
pub fn apply_policy(kernel: &Kernel, config: &config::kernel::Kernel) -> Result<(), AppError> {
    let rate = |r: kernel_policy::Rate| Rate { per_second: r.per_second, burst: r.burst };
    let bar =
        config.limits.bar.map(|b| Bar { violations: b.violations, within: b.within, lasting: b.lasting });
    let of = |l: &kernel_policy::SourceLimits| SourceLimits {
        packets: l.packets.map(rate),
        bytes: l.bytes.map(rate),
        connections: l.connections.map(rate),
        bar: bar.filter(|_| *l != kernel_policy::SourceLimits::default()),
    };
    let overrides: Vec<(Target, SourceLimits)> = config
        .limits
        .overrides
        .iter()
        .flat_map(|(networks, limits)| targets(networks).into_iter().map(move |t| (t, of(limits))))
        .collect();
    kernel.set_limits(&of(&config.limits.everyone), &overrides)?;
    kernel.set_flood(&FloodLimits {
        new_sources: config.flood.new_sources,
        heavy: config.flood.heavy,
        connections: config.flood.connections.map(rate),
        cookies: config.flood.cookies.clone(),
    })?;
    let cookies = kernel.cookies();
    if !config.flood.cookies.is_empty() && cookies != Cookies::Available {
        tracing::warn!(
            "SYN cookies of `kernel.flood` are {cookies}; connections beyond the gate are refused"
        );
    }
    let set = |s: &kernel_policy::PortSet| PortSet {
        tcp: s.tcp.clone(),
        udp: s.udp.clone(),
        icmp: s.icmp.clone(),
        icmp6: s.icmp6.clone(),
        protocols: s.protocols.clone(),
    };
    kernel.set_ports(&PortPolicy {
        closed_by_default: config.ports.default == kernel_policy::DefaultPolicy::Closed,
        closed: set(&config.ports.closed),
        open: set(&config.ports.open),
        management: config.ports.management.clone(),
    });
    Ok(())
}

/// Networks as the kernel side names them. A prefix longer than its family's addresses can't come out of a
/// checked configuration.
pub fn targets(networks: &[IpNetwork]) -> Vec<Target> {
    networks.iter().filter_map(|n| Target::prefix(n.addr(), n.prefix()).ok()).collect()
}

/// The network of a target.
pub fn network(target: Target) -> IpNetwork {
    IpNetwork::containing(target.address(), target.length())
}

/// Writes decisions into the kernel's tables.
pub struct Writer(pub Arc<Kernel>);

/// Changes as the kernel side names them.
fn changes(batch: &[BanChange]) -> Result<Vec<kernel::BanChange>, WriteError> {
    let change = |change: &BanChange| {
        let network = match change {
            BanChange::Add { network, .. } | BanChange::Remove { network } => network,
        };
        let target =
            Target::prefix(network.addr(), network.prefix()).map_err(|e| WriteError(e.to_string()))?;
        Ok(match change {
            BanChange::Remove { .. } => kernel::BanChange::Unban { target },
            BanChange::Add { until_unix_ms, reason, .. } => kernel::BanChange::Ban {
                target,
                until: Expiry::At(UNIX_EPOCH + Duration::from_millis(*until_unix_ms)),
                reason: match reason {
                    Origin::Local => BanReason::Waf,
                    Origin::Operator => BanReason::Manual,
                    Origin::Peer => BanReason::Cluster,
                    Origin::CrowdSec | Origin::Feed => BanReason::Feed,
                },
            },
        })
    };
    batch.iter().map(change).collect()
}

impl KernelWriter for Writer {
    fn apply(&mut self, batch: &[BanChange]) -> Result<(), WriteError> {
        match self.0.apply(&changes(batch)?).refused.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(WriteError(error.to_string())),
        }
    }

    fn list(&mut self) -> Result<Vec<KernelBan>, WriteError> {
        Ok(self.0.bans().into_iter().filter_map(|ban| standing(&ban)).collect())
    }

    fn shortcut(&self) -> Option<Box<dyn Shortcut>> {
        Some(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Shortcut for Writer {
    fn try_ban(&mut self, bans: &[BanChange]) {
        // What is refused, the writer is told of again, and says.
        if let Ok(changes) = changes(bans) {
            let _applied = self.0.try_apply(&changes);
        }
    }
}

impl KernelLists for Writer {
    fn swap(&mut self, networks: &[IpNetwork]) -> Result<(), WriteError> {
        self.0.set_feed(targets(networks)).map(drop).map_err(|e| WriteError(e.to_string()))
    }
}

/// A ban of the tables with its end on the wall clock.
fn standing(ban: &kernel::Ban) -> Option<KernelBan> {
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let until_unix_ms =
        ban.remaining.map_or(u64::MAX, |left| u64::try_from((now + left).as_millis()).unwrap_or(u64::MAX));
    let reason = match ban.reason {
        BanReason::Manual => Origin::Operator,
        BanReason::Cluster => Origin::Peer,
        BanReason::Feed => Origin::Feed,
        _ => Origin::Local,
    };
    Some(KernelBan { network: network(ban.target), until_unix_ms, reason })
}

/// Writes the kernel's counters as metrics.
///
/// # Errors
/// When `out` fails.
pub fn metrics(kernel: &Kernel, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
    let stats = kernel.stats();
    writeln!(
        out,
        "# HELP gateway_xdp_packets_total Packets by what became of them.\n\
         # TYPE gateway_xdp_packets_total counter\n\
         gateway_xdp_packets_total{{verdict=\"passed\"}} {}\n\
         gateway_xdp_packets_total{{verdict=\"dropped\"}} {}\n\
         gateway_xdp_packets_total{{verdict=\"observed\"}} {}\n\
         # HELP gateway_xdp_reason_packets_total Packets by the reason of their verdict.\n\
         # TYPE gateway_xdp_reason_packets_total counter",
        stats.passed, stats.dropped, stats.observed
    )?;
    for r in &stats.reasons {
        writeln!(out, "gateway_xdp_reason_packets_total{{reason=\"{}\"}} {}", r.reason, r.packets)?;
    }
    Ok(())
}
