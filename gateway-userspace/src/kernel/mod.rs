//! The hand on the kernel: loads and attaches the XDP programs, writes bans and settings, reads counters and events.
//!
//! Nothing here knows of the rest of the daemon. State lives in maps pinned on a BPF file system, so bans outlive
//! the daemon; a new daemon adopts them and swaps the program through the pinned link between two packets.
//!
//! Tables are written through shared memory by one writer at a time ([`Kernel`] has the lock; a second process is
//! refused); the kernel reads without locks.

mod attach;
mod bans;
mod capture;
mod carry;
mod clock;
mod direct;
mod error;
mod events;
mod feeds;
mod flood;
mod guard;
mod host_table;
mod life;
mod limits;
mod load;
mod mapped;
mod near;
mod netlink;
mod policy;
mod ports;
mod prompt;
mod source;
mod stats;
mod status;
mod sweep;
mod sys;
mod target;
mod test_run;
mod wide_table;

use std::{
    ops::RangeInclusive,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

pub use attach::{AttachMode, Attachment, InterfaceConfig};
pub use bans::Ban;
pub use capture::{Captured, CapturedPacket, PcapNg};
pub use carry::Carried;
pub use error::{BanError, KernelError};
pub use events::{DropEvent, Events};
pub use feeds::{FeedFull, FeedLoad};
pub use flood::{Cookies, FloodLimits};
pub use gateway_common::reason::{BanReason, Mode, Modes, Part, Reason};
pub use life::prepare_root;
pub use limits::{Bar, Rate, SourceLimits};
pub use ports::{PortPolicy, PortSet};
pub use prompt::prompt_thread;
pub use source::{CellView, SourceCells};
pub use stats::{BanStats, ReasonStats, Stats};
pub use status::{Attached, Status, Table, attached, test_run_pinned, uninstall};
pub use sweep::Swept;
pub use sys::{TestRunResult, own_addresses};
pub use target::{Expiry, Target, TargetError};
pub use test_run::TestProgram;

use attach::Links;
use bans::Spot;
use feeds::Feeds;
use guard::Guard;
use load::Loaded;

/// The name of an interface of this network namespace; `None` when there is none of this index.
pub fn interface_name(index: u32) -> Option<String> {
    netlink::interface(index).ok().map(|interface| interface.name)
}

/// Whether an interface of this network namespace is one end of a virtual cable. What a native program sends back there arrives
/// only where the other end has a program, too.
pub fn is_veth(index: u32) -> bool {
    netlink::interface(index).is_ok_and(|interface| interface.is_veth)
}

/// Where BPF objects are pinned by default.
pub const DEFAULT_PIN_ROOT: &str = "/sys/fs/bpf/gateway";

/// Settings of the kernel side that hold for its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// Folder on a BPF file system; `/sys/fs/bpf` is mounted when it is not.
    pub pin_root: PathBuf,
    /// Banned IPv4 hosts to hold: 1,000 to 16,000,000; 10 bytes and up of kernel memory each.
    pub capacity_hosts: u32,
    /// Banned IPv6 hosts and pieces of prefixes to hold: 1,000 to 16,000,000; 27 bytes and up each.
    pub capacity_wide: u32,
    /// Sources whose limits are tracked at once, times the kinds of limits in use: 1,000 to 16,000,000; 10 bytes each.
    pub capacity_sources: u32,
    /// IPv4 hosts of feed sets: 1,000 to 16,000,000; twice 5 bytes and up each.
    pub capacity_feed_hosts: u32,
    /// IPv6 hosts and pieces of IPv6 prefixes of feed sets: 1,000 to 16,000,000; twice 27 bytes and up each.
    pub capacity_feed_wide: u32,
    /// How long limits and port policy stay enforced without a heartbeat of the daemon.
    pub heartbeat_timeout: Duration,
    /// Another compiled object in place of the one built in, to measure one beside the other: it must have the same maps.
    pub object: Option<PathBuf>,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            pin_root: DEFAULT_PIN_ROOT.into(),
            capacity_hosts: 1_000_000,
            capacity_wide: 1_000_000,
            capacity_sources: 400_000,
            capacity_feed_hosts: 1_000_000,
            capacity_feed_wide: 250_000,
            heartbeat_timeout: Duration::from_secs(5),
            object: None,
        }
    }
}

/// One change to the bans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanChange {
    /// Make a ban, or replace the one on the same target.
    Ban {
        /// What.
        target: Target,
        /// Until when.
        until: Expiry,
        /// Why.
        reason: BanReason,
    },
    /// Lift a ban.
    Unban {
        /// What.
        target: Target,
    },
}

impl BanChange {
    /// What it is about.
    pub const fn target(&self) -> &Target {
        match self {
            Self::Ban { target, .. } | Self::Unban { target } => target,
        }
    }
}

/// Changes for which the clock is read once.
const BATCH: usize = 64;
/// Changes whose cache misses overlap.
const AHEAD: usize = 16;

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Changes made, replacements included.
    pub changed: usize,
    /// Changes refused: their place in the batch, and why.
    pub refused: Vec<(usize, BanError)>,
}

/// The kernel side, open. Dropping it leaves programs, links and bans in place.
pub struct Kernel {
    state: Mutex<State>,
    feeds: Mutex<Feeds>,
    links: Links,
    folder: PathBuf,
    root: PathBuf,
    config: KernelConfig,
    carried: Option<Carried>,
    lock: Mutex<Option<OwnedFd>>,
}

struct State {
    loaded: Loaded,
    guard: Guard,
    /// Sources that are never dropped.
    allowed: Vec<Target>,
    /// Classes of limits by prefix.
    classes: Vec<(Target, u32)>,
    /// Ports that answer with cookies where the host can.
    cookie_ports: Vec<RangeInclusive<u16>>,
    /// Whether it could when it was last asked, with those ports.
    cookies: Option<Cookies>,
}

impl State {
    /// Writes the modes: as wanted, but off where nothing is configured, so that a packet does not pay for it.
    fn write_modes(&self, wanted: Modes, has: impl Fn(Part) -> bool) {
        let modes = [Part::Feeds, Part::Ports, Part::Limits, Part::Flood]
            .into_iter()
            .filter(|part| !has(*part))
            .fold(wanted, |modes, part| modes.with(part, Mode::Off));
        let lapsed = [Part::Ports, Part::Limits, Part::Flood].into_iter().fold(modes, |lapsed, part| {
            let mode = lapsed.get(part);
            lapsed.with(part, if mode == Mode::Enforce { Mode::Observe } else { mode })
        });
        let control = &self.loaded.control[0];
        control.modes_wanted.store(wanted.0, Relaxed);
        control.modes_lapsed.store(lapsed.0, Relaxed);
        control.modes.store(modes.0, Relaxed);
    }

    /// Turns the check of a part on or off as there is something to check.
    fn configure(&mut self, part: Part, something: bool) {
        let mask = 1 << part as u32;
        let configured = self.loaded.control[0].configured.load(Relaxed);
        let configured = if something { configured | mask } else { configured & !mask };
        self.loaded.control[0].configured.store(configured, Relaxed);
        let wanted = Modes(self.loaded.control[0].modes_wanted.load(Relaxed));
        self.set_modes(wanted);
    }

    fn set_modes(&self, wanted: Modes) {
        let configured = self.loaded.control[0].configured.load(Relaxed);
        self.write_modes(wanted, |part| configured >> part as u32 & 1 == 1);
    }
}

impl Kernel {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding the lock and half-way through a change of the tables.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when this daemon adopted the maps of an earlier one.
    pub fn adopted(&self) -> bool {
        self.state().loaded.adopted
    }

    /// Lets another daemon open the same pinned state. From here on nothing may be written through this value.
    pub fn let_go(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// What was taken over from an earlier daemon's maps of another size or layout; `None` where there were none.
    pub const fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// What it was opened with.
    pub const fn config(&self) -> &KernelConfig {
        &self.config
    }

    /// Bans a target until `until`. True when it was not banned before; an existing ban on the same target is replaced.
    ///
    /// # Errors
    /// [`BanError`]: it touches a guarded address, is too wide, or the table is full.
    pub fn ban(&self, target: Target, until: Expiry, reason: BanReason) -> Result<bool, BanError> {
        let state = self.state();
        state.guard.check(&target)?;
        let expiry = state.loaded.clock.expiry(until, SystemTime::now());
        let (loaded, now) = (&state.loaded, state.loaded.clock.expiry_now());
        loaded.ban(&target, loaded.spot(&target), expiry, reason, now)
    }

    /// Lifts the ban on exactly this target. True when it stood.
    pub fn unban(&self, target: Target) -> bool {
        self.state().loaded.unban(&target)
    }

    /// Makes many changes, in order, under one lock.
    pub fn apply(&self, changes: &[BanChange]) -> Applied {
        Self::apply_to(&self.state(), changes)
    }

    /// As [`Kernel::apply`], where nobody else is at the tables; `None` where somebody is, and nothing is done.
    pub fn try_apply(&self, changes: &[BanChange]) -> Option<Applied> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Self::apply_to(&state, changes))
    }

    fn apply_to(state: &State, changes: &[BanChange]) -> Applied {
        let (loaded, wall) = (&state.loaded, SystemTime::now());
        let mut applied = Applied::default();
        let (mut jiffies, mut now) = (0, 0);
        // Most of a batch ends together.
        let mut last = None;
        let mut spots = [Spot::Pieces; AHEAD];
        for (spot, change) in spots.iter_mut().zip(changes) {
            *spot = loaded.spot(change.target());
        }
        for (place, change) in changes.iter().enumerate() {
            if place % BATCH == 0 {
                (jiffies, now, last) = (loaded.clock.jiffies(), loaded.clock.expiry_now(), None);
            }
            let spot = spots[place % AHEAD];
            if let Some(later) = changes.get(place + AHEAD) {
                spots[place % AHEAD] = loaded.spot(later.target());
            }
            let result = match change {
                BanChange::Ban { target, until, reason } => state.guard.check(target).and_then(|()| {
                    let expiry = match last {
                        Some((same, expiry)) if same == *until => expiry,
                        _ => loaded.clock.expiry_at(*until, wall, jiffies),
                    };
                    last = Some((*until, expiry));
                    loaded.ban(target, spot, expiry, *reason, now).map(drop)
                }),
                BanChange::Unban { target } => {
                    loaded.unban(target);
                    Ok(())
                }
            };
            match result {
                Ok(()) => applied.changed += 1,
                Err(error) => applied.refused.push((place, error)),
            }
        }
        applied
    }

    /// The ban on exactly this target, if it stands.
    pub fn find(&self, target: Target) -> Option<Ban> {
        self.state().loaded.find(&target)
    }

    /// Every ban that stands, in no order.
    pub fn bans(&self) -> Vec<Ban> {
        self.state().loaded.bans()
    }

    /// Clears what has expired. Call it now and then (a minute apart is enough): expired bans do nothing, but take
    /// room and leave marks that cost a look.
    pub fn sweep(&self) -> Swept {
        self.state().loaded.sweep()
    }

    /// Replaces the allowlist (never dropped, never banned) and the protected prefixes (never banned: trusted
    /// proxies, management sources). The host's own addresses are always protected. Standing bans that touch any of
    /// them are lifted; their number is returned.
    ///
    /// # Errors
    /// When there are more than 8,192 prefixes, or the kernel refuses one.
    pub fn set_allowlist(&self, allow: &[Target], protected: &[Target]) -> Result<usize, KernelError> {
        let own = own_addresses()
            .map_err(|error| KernelError::from_io("listing the host's own addresses", error))?;
        let guarded = |kind| move |target: &Target| (*target, kind);
        let guard = Guard::new(
            own.into_iter()
                .map(|address| (Target::from(address), "this host's own address"))
                .chain(protected.iter().map(guarded("a protected source")))
                .chain(allow.iter().map(guarded("on the allowlist"))),
        );
        let mut state = self.state();
        let allowed: Vec<Target> = allow.iter().chain(protected).copied().collect();
        let classes = std::mem::take(&mut state.classes);
        let written = state.loaded.write_policy(&allowed, &classes);
        state.classes = classes;
        written?;
        state.allowed = allowed;
        let touching: Vec<Target> = state
            .loaded
            .bans()
            .into_iter()
            .map(|ban| ban.target)
            .filter(|target| guard.check(target).is_err())
            .collect();
        for target in &touching {
            state.loaded.unban(target);
        }
        state.guard = guard;
        Ok(touching.len())
    }

    /// Sets what the parts do. A new kernel side enforces everything.
    pub fn set_modes(&self, modes: Modes) {
        self.state().set_modes(modes);
    }

    /// Sets the limits of sources: those of everyone, and those of prefixes (the longest counts).
    ///
    /// # Errors
    /// [`KernelError::OutOfBounds`] for a value outside its bounds, more than 64 different limits, or more prefixes
    /// than the policy trie holds together with the allowlist (8,192).
    pub fn set_limits(
        &self,
        default: &SourceLimits,
        overrides: &[(Target, SourceLimits)],
    ) -> Result<(), KernelError> {
        let mut state = self.state();
        let classes = state.loaded.write_limits(default, overrides)?;
        let allowed = std::mem::take(&mut state.allowed);
        let written = state.loaded.write_policy(&allowed, &classes);
        state.allowed = allowed;
        written?;
        state.classes = classes;
        let any = !default.is_empty() || overrides.iter().any(|(_, limits)| !limits.is_empty());
        state.configure(Part::Limits, any);
        Ok(())
    }

    /// Sets the defences against floods of many sources.
    ///
    /// # Errors
    /// [`KernelError::OutOfBounds`] for a value outside its bounds.
    pub fn set_flood(&self, limits: &FloodLimits) -> Result<(), KernelError> {
        let mut state = self.state();
        let any = state.loaded.write_flood(limits)?;
        state.cookie_ports.clone_from(&limits.cookies);
        state.cookies = None;
        state.follow_cookies();
        state.configure(Part::Flood, any);
        Ok(())
    }

    /// Whether this host can answer new connections with cookies under pressure.
    pub fn cookies(&self) -> Cookies {
        Cookies::probe()
    }

    /// Sets which ports, ICMP types and protocols may be reached.
    pub fn set_ports(&self, policy: &PortPolicy) {
        let mut state = self.state();
        let any = state.loaded.write_ports(policy);
        state.configure(Part::Ports, any);
    }

    /// Replaces the whole feed set at once; packets are judged by the old one until the new one is complete. Bans can
    /// be made meanwhile.
    ///
    /// # Errors
    /// [`FeedFull`]: the old set stays in force.
    pub fn set_feed(&self, targets: impl IntoIterator<Item = Target>) -> Result<FeedLoad, FeedFull> {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let load = feeds.replace(&mut targets.into_iter(), |generation, swap| {
            let state = self.state();
            state.loaded.near_feed(generation);
            swap();
            state.loaded.rebuild_near();
        })?;
        self.state().configure(Part::Feeds, load.hosts + load.prefixes + load.wide > 0);
        Ok(load)
    }

    /// What the parts do while the heartbeat is fresh.
    pub fn modes(&self) -> Modes {
        Modes(self.state().loaded.control[0].modes_wanted.load(Relaxed))
    }

    /// Tells the kernel that the daemon is alive. When it has not for the time configured, limits, port policy and
    /// flood defences only observe; bans and feeds go on.
    pub fn heartbeat(&self) {
        let mut state = self.state();
        if !state.cookie_ports.is_empty() {
            state.follow_cookies();
        }
        let clock = &state.loaded.clock;
        let deadline = clock.jiffies().saturating_add(clock.ticks(self.config.heartbeat_timeout));
        state.loaded.control[0].heartbeat_deadline.store(deadline, Relaxed);
    }

    /// Everything counted since the maps were made.
    pub fn stats(&self) -> Stats {
        Stats::read(&self.state().loaded.stats)
    }

    /// The reading end of the sampled drops; there is one, so the second call gives `None`.
    pub fn events(&self) -> Option<Events> {
        let mut state = self.state();
        let clock = state.loaded.clock;
        state.loaded.events.take().map(|ring| Events::new(ring, clock))
    }

    /// Copies packets dropped (or observed) for these reasons to the capture ring; an empty list ends it. At most 64 a
    /// CPU and tick, and of each the first 256 bytes.
    pub fn set_capture(&self, reasons: &[Reason]) {
        let bits = reasons.iter().fold(0, |bits, reason| bits | 1u32 << reason.code());
        self.state().loaded.control[0].capture_reasons.store(bits, Relaxed);
    }

    /// The reading end of the capture ring; there is one, so the second call gives `None`.
    pub fn captured(&self) -> Option<Captured> {
        let mut state = self.state();
        let clock = state.loaded.clock;
        state.loaded.captured.take().map(|ring| Captured::new(ring, clock))
    }

    /// Instructions that the verifier walked to accept the program; `None` before Linux 5.16.
    pub fn verified_instructions(&self) -> Option<u32> {
        self.state().loaded.verified_instructions()
    }

    /// The folder of pinned maps.
    pub fn pin_folder(&self) -> &Path {
        &self.folder
    }
}
