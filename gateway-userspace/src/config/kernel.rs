//! `[kernel]`: the XDP side.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{Problems, kernel_capacity, kernel_flood, kernel_policy};
use crate::client::IpNetwork;

/// Most interfaces that one gateway attaches to.
pub const MAX_INTERFACES: usize = 64;
/// Most entries of the allowlist.
pub const MAX_ALLOW: usize = 4096;

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    required: bool,
    mode: Mode,
    modes: RawModes,
    interfaces: Vec<Spanned<String>>,
    attach: Attach,
    pin: Option<Spanned<String>>,
    allow: Option<Spanned<Vec<IpNetwork>>>,
    capacity: kernel_capacity::RawCapacity,
    limits: kernel_policy::RawLimits,
    flood: kernel_flood::RawFlood,
    ports: kernel_policy::RawPorts,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            required: true,
            mode: Mode::default(),
            modes: RawModes::default(),
            interfaces: Vec::new(),
            attach: Attach::default(),
            pin: None,
            allow: None,
            capacity: kernel_capacity::RawCapacity::default(),
            limits: kernel_policy::RawLimits::default(),
            flood: kernel_flood::RawFlood::default(),
            ports: kernel_policy::RawPorts::default(),
        }
    }
}

/// `[kernel.modes]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawModes {
    bans: Option<Mode>,
    feeds: Option<Mode>,
    ports: Option<Mode>,
    limits: Option<Mode>,
    malformed: Option<Mode>,
}

/// What each part of the kernel side does; never more than the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Bans.
    pub bans: Mode,
    /// Feed sets.
    pub feeds: Mode,
    /// Port policy.
    pub ports: Mode,
    /// Limits of sources.
    pub limits: Mode,
    /// What all sources do together ([`kernel_flood::Flood::mode`]).
    pub flood: Mode,
    /// Packets that break their own format.
    pub malformed: Mode,
}

/// What the kernel side does with what it would drop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is judged.
    Off,
    /// What would drop is counted and sampled, and passes.
    Observe,
    /// What should drop is dropped.
    #[default]
    Enforce,
}

/// How to attach to an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// In the driver where it can, else generic; the log says which and why.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// After the kernel has built its packet: slower, works everywhere.
    Generic,
}

/// The XDP side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Whether the gateway refuses to start where the kernel or its privileges have no room for the kernel side; default
    /// yes. Otherwise it says so and serves without.
    pub required: bool,
    /// Default enforce.
    pub mode: Mode,
    /// Those of the parts; default as the whole.
    pub modes: Modes,
    /// Names of the interfaces to attach to; none: the kernel side is not used.
    pub interfaces: Vec<String>,
    /// Default auto.
    pub attach: Attach,
    /// Folder in bpffs for pinned maps and links; default `/sys/fs/bpf/gateway`.
    pub pin: PathBuf,
    /// Never banned nor limited in the kernel.
    pub allow: Vec<IpNetwork>,
    /// How much the tables hold.
    pub capacity: kernel_capacity::Capacity,
    /// What one source may send.
    pub limits: kernel_policy::Limits,
    /// What all sources may do together.
    pub flood: kernel_flood::Flood,
    /// What may be reached.
    pub ports: kernel_policy::Ports,
}

pub(super) fn check(raw: Raw, problems: &mut Problems<'_>) -> Kernel {
    if let Some(extra) = raw.interfaces.get(MAX_INTERFACES) {
        problems.at(extra.span(), format!("at most {MAX_INTERFACES} interfaces can be attached to."));
    }
    let mut interfaces: Vec<String> = Vec::new();
    for name in raw.interfaces {
        // IFNAMSIZ is 16 with the closing NUL.
        let valid = matches!(name.get_ref().len(), 1..=15)
            && !name.get_ref().contains(|c: char| c == '/' || c.is_whitespace());
        if !valid {
            problems.at(name.span(), "an interface name has 1 to 15 characters, without spaces or slashes.");
        } else if interfaces.contains(name.get_ref()) {
            problems.at(name.span(), format!("interface `{}` is named twice.", name.get_ref()));
        }
        interfaces.push(name.into_inner());
    }
    let pin = raw.pin.map_or_else(
        || PathBuf::from("/sys/fs/bpf/gateway"),
        |p| {
            if !p.get_ref().starts_with('/') {
                problems.at(p.span(), "`pin` must be an absolute path in a BPF file system.");
            }
            PathBuf::from(p.into_inner())
        },
    );
    let allow = raw.allow.map_or_else(Vec::new, |list| {
        if list.get_ref().len() > MAX_ALLOW {
            problems.at(list.span(), format!("`allow` holds at most {MAX_ALLOW} networks."));
        }
        list.into_inner()
    });
    let flood = kernel_flood::check(raw.flood, problems);
    let of = |part: Option<Mode>| part.map_or(raw.mode, |part| part.min(raw.mode));
    let modes = Modes {
        bans: of(raw.modes.bans),
        feeds: of(raw.modes.feeds),
        ports: of(raw.modes.ports),
        limits: of(raw.modes.limits),
        flood: of(flood.mode),
        malformed: of(raw.modes.malformed),
    };
    Kernel {
        required: raw.required,
        mode: raw.mode,
        modes,
        interfaces,
        attach: raw.attach,
        pin,
        allow,
        capacity: kernel_capacity::check(raw.capacity, problems),
        limits: kernel_policy::check_limits(raw.limits, problems),
        flood,
        ports: kernel_policy::check_ports(raw.ports, problems),
    }
}
