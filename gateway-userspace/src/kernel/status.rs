//! What `gateway xdp status` and `top` show, and what works without a daemon.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    sync::{PoisonError, atomic::Ordering::Relaxed},
};

use serde::Serialize;

use super::{
    Ban, Kernel, Mode, Modes, Part, Reason, TestRunResult,
    attach::{AttachMode, Links},
    carry::Carried,
    error::KernelError,
    life::remove_tree,
    load::Shape,
    netlink, sys,
};

/// The kernel side at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Folder of the pinned maps.
    pub pin_folder: String,
    /// True when the maps were made by an earlier daemon.
    pub adopted: bool,
    /// Mode of each part, as wanted.
    pub modes: BTreeMap<&'static str, &'static str>,
    /// Mode of each part as the kernel sees it now: off where nothing is configured, and without a fresh heartbeat
    /// no more than observing for limits, ports and flood defences.
    pub effective: BTreeMap<&'static str, &'static str>,
    /// Interfaces with the program on them.
    pub interfaces: Vec<Attached>,
    /// The tables that have a capacity: what they hold, what they cost.
    pub tables: Vec<Table>,
    /// Kernel memory of each map in bytes, as the kernel accounts for it.
    pub memory: BTreeMap<String, u64>,
    /// Kernel memory of all maps in bytes.
    pub memory_total: u64,
    /// Reasons whose packets a capture copies now.
    pub capturing: Vec<&'static str>,
    /// What was taken over from maps of another size or layout at the start.
    pub carried: Option<Carried>,
    /// Whether this host can answer new connections with cookies under pressure; if not, why.
    pub cookies: String,
    /// Instructions the verifier walked; `None` before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// Nanoseconds of the kernel's tick.
    pub tick_ns: u64,
}

/// An interface with the program on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// Name of the pin, which is the interface's with odd characters as %xx.
    pub pin: String,
    /// Index of the interface; zero when it is gone.
    pub index: u32,
    /// Its name; `None` when it is gone, or in another network namespace.
    pub interface: Option<String>,
    /// Mode in force; `None` when the kernel does not tell.
    pub mode: Option<AttachMode>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// How that mode came about; of the daemon that attached.
    pub reason: Option<String>,
}

/// A table that has a capacity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Its name, which is the key in `[kernel.capacity]`.
    pub table: &'static str,
    /// Entries it was asked to hold.
    pub capacity: u32,
    /// Entries in it; `None` where nobody counts.
    pub used: Option<u64>,
    /// Its kernel memory in bytes, counters and second generation included.
    pub bytes: u64,
}

impl Kernel {
    /// The kernel side at a glance.
    ///
    /// # Errors
    /// When the pin folders cannot be read.
    pub fn status(&self) -> Result<Status, KernelError> {
        let verified_instructions = self.verified_instructions();
        let tables = self.tables()?;
        let memory = memory(self.pin_folder())?;
        let state = self.state();
        let control = &state.loaded.control[0];
        let lapsed = state.loaded.clock.jiffies() >= control.heartbeat_deadline.load(Relaxed);
        let effective = if lapsed { &control.modes_lapsed } else { &control.modes };
        Ok(Status {
            pin_folder: self.pin_folder().display().to_string(),
            adopted: state.loaded.adopted,
            modes: by_part(Modes(control.modes_wanted.load(Relaxed))),
            effective: by_part(Modes(effective.load(Relaxed))),
            interfaces: interfaces(&self.links)?,
            tables,
            memory_total: memory.values().sum(),
            memory,
            capturing: Reason::ALL
                .iter()
                .filter(|reason| control.capture_reasons.load(Relaxed) >> reason.code() & 1 == 1)
                .map(|reason| reason.name())
                .collect(),
            carried: self.carried().cloned(),
            cookies: self.cookies().to_string(),
            verified_instructions,
            tick_ns: state.loaded.clock.tick_ns(),
        })
    }

    /// The tables that have a capacity.
    fn tables(&self) -> Result<Vec<Table>, KernelError> {
        let config = self.config();
        let memory = Shape::new(config)?.memory();
        let (feed_hosts, feed_wide) = self.feeds.lock().unwrap_or_else(PoisonError::into_inner).used();
        let (hosts, wide) = self.state().loaded.used();
        let table = |table, capacity, used, bytes| Table { table, capacity, used, bytes };
        Ok(vec![
            table("hosts", config.capacity_hosts, Some(hosts), memory.hosts),
            table("wide", config.capacity_wide, Some(wide), memory.wide),
            table("sources", config.capacity_sources, None, memory.sources),
            table("feed_hosts", config.capacity_feed_hosts, Some(feed_hosts), memory.feed_hosts),
            table("feed_wide", config.capacity_feed_wide, Some(feed_wide), memory.feed_wide),
        ])
    }

    /// The bans that dropped most packets, the busiest first.
    pub fn top(&self, count: usize) -> Vec<Ban> {
        let mut bans = self.bans();
        bans.sort_by(|a, b| b.hits.cmp(&a.hits).then(a.target.cmp(&b.target)));
        bans.truncate(count);
        bans
    }
}

fn by_part(modes: Modes) -> BTreeMap<&'static str, &'static str> {
    Part::ALL.iter().map(|part| (part.name(), Mode::name(modes.get(*part)))).collect()
}

fn interfaces(links: &Links) -> Result<Vec<Attached>, KernelError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let attached = links.list()?.into_iter().map(|(path, index)| {
        let seen = netlink::interface(index).ok().filter(|_| index != 0);
        Attached {
            pin: name(&path),
            index,
            interface: seen.as_ref().map(|seen| seen.name.clone()),
            mode: seen.as_ref().and_then(|seen| seen.mode),
            mtu: seen.map(|seen| seen.mtu),
            reason: links.reason(index),
        }
    });
    Ok(attached.collect())
}

/// Kernel memory of the maps pinned in a folder.
fn memory(folder: &Path) -> Result<BTreeMap<String, u64>, KernelError> {
    let failed = |error| KernelError::from_io(format!("reading {}", folder.display()), error);
    let mut memory = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("program")) {
            continue;
        }
        let map = sys::open_pin(&path).map_err(failed)?;
        let info =
            fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd())).map_err(failed)?;
        let bytes = info
            .lines()
            .find_map(|line| line.strip_prefix("memlock:"))
            .and_then(|bytes| bytes.trim().parse().ok())
            .unwrap_or(0);
        memory.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes);
    }
    Ok(memory)
}

/// The interfaces with the program on them, without a daemon.
///
/// # Errors
/// When the pin folder cannot be read.
pub fn attached(pin_root: &Path) -> Result<Vec<Attached>, KernelError> {
    if !pin_root.exists() {
        return Ok(Vec::new());
    }
    interfaces(&Links::new(pin_root)?)
}

/// Detaches everywhere and removes every pin, whether a daemon runs or not; how many interfaces there were.
///
/// # Errors
/// When something cannot be removed.
pub fn uninstall(pin_root: &Path) -> Result<usize, KernelError> {
    if !pin_root.exists() {
        return Ok(0);
    }
    let count = Links::new(pin_root)?.detach_all()?;
    remove_tree(pin_root)?;
    Ok(count)
}

/// Runs any pinned XDP program on a packet, to measure it beside ours.
///
/// # Errors
/// When there is none at the path, or the kernel refuses the packet.
pub fn test_run_pinned(pin: &Path, packet: &[u8], repeat: u32) -> Result<TestRunResult, KernelError> {
    let failed = |error| KernelError::from_io(format!("running {}", pin.display()), error);
    let program = sys::open_pin(pin).map_err(failed)?;
    sys::test_run(program.as_fd(), packet, repeat, None).map_err(failed)
}
