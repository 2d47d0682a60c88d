//! Carrying bans and feeds over from an earlier generation of maps into a new one of another size or layout.
//!
//! The old generation goes on judging packets meanwhile; it is only read. When something does not fit, the new
//! generation is given up and the old one stays.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use aya::maps::MapData;
use gateway_common::{
    BANS_SINCE, SCHEMA,
    address::Wide,
    bans::{HOST_WAYS, Tag},
    hash::HashKey,
    marks::{self, FIELDS, V4_WORDS},
};
use serde::Serialize;

use super::{
    error::KernelError,
    feeds::{FeedFull, Feeds},
    host_table::HostTable,
    load::{Loaded, load_error},
    mapped::{Cell, ControlCell, FeedCell, HostCell, Mapped, WideCell},
    target::Target,
    wide_table::WideTable,
};

/// What a new generation of maps took over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Folder of the generation before.
    pub from: String,
    /// Entries of the ban tables.
    pub bans: u64,
    /// Entries of the feed set.
    pub feeds: u64,
    /// True when the layout of the old tables is not known here: nothing could be taken over.
    pub unreadable: bool,
}

/// The maps of an earlier generation that are carried over.
struct Old {
    hosts: Mapped<HostCell>,
    host_hits: Mapped<[AtomicU32; HOST_WAYS]>,
    wide: Mapped<WideCell>,
    wide_hits: Mapped<[AtomicU32; 4]>,
}

/// Listing a table's entries takes no key.
const NO_KEY: HashKey = HashKey { words: [0; 2] };

/// The generations under a root other than this one, the newest first.
pub fn others(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('v') && entry.path() != folder)
        .map(|entry| (entry.metadata().and_then(|data| data.modified()).ok(), entry.path()))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The schema that a generation was completed with; zero when it was not. It is the first word of the control record,
/// whatever follows in that version.
pub fn schema(folder: &Path) -> u32 {
    let read = || -> Option<u32> {
        let map = MapData::from_pin(folder.join("CONTROL")).ok()?;
        let beginning: Mapped<[AtomicU32; 1]> = Mapped::new(map.fd().as_fd(), 1).ok()?;
        Some(beginning[0][0].load(Relaxed))
    };
    read().unwrap_or(0)
}

/// Copies what stands in `old` into a new generation that nothing judges by yet.
///
/// # Errors
/// When it does not fit, or the old maps cannot be read.
pub fn over(old: &Path, loaded: &Loaded, feeds: &mut Feeds) -> Result<Carried, KernelError> {
    let mut carried = Carried { from: old.display().to_string(), ..Carried::default() };
    let schema = schema(old);
    if !(BANS_SINCE..=SCHEMA).contains(&schema) {
        carried.unreadable = true;
        return Ok(carried);
    }
    let maps = Old {
        hosts: open(old, "HOSTS")?,
        host_hits: open(old, "HOST_HITS")?,
        wide: open(old, "WIDE")?,
        wide_hits: open(old, "WIDE_HITS")?,
    };
    carried.bans = maps.bans(loaded)?;
    if schema == SCHEMA {
        let members = members(old)?;
        carried.feeds = members.len() as u64;
        let full = |full: FeedFull| KernelError::CarryOver { what: "the feed set", entries: full.loaded };
        let publish = |generation, swap: &mut dyn FnMut()| {
            loaded.near_feed(generation);
            swap();
        };
        feeds.replace(&mut members.into_iter(), publish).map_err(full)?;
    }
    Ok(carried)
}

impl Old {
    /// Copies the bans, hits and all; how many entries there were.
    fn bans(&self, loaded: &Loaded) -> Result<u64, KernelError> {
        let now = loaded.clock.expiry_now();
        let mut count = 0;
        let hosts = HostTable { buckets: &self.hosts, hits: &self.host_hits, key: NO_KEY };
        for (_, entry) in hosts.entries(0..self.hosts.len()).filter(|(_, entry)| entry.tag.holds(now)) {
            let full = |_| KernelError::CarryOver { what: "the bans of IPv4 hosts", entries: count };
            loaded.restore_host(&entry, now).map_err(full)?;
            count += 1;
        }
        let wide = WideTable { buckets: &self.wide, hits: &self.wide_hits, key: NO_KEY };
        for (_, entry) in wide.entries(0..self.wide.len()).filter(|(_, entry)| entry.tag.holds(now)) {
            let full =
                |_| KernelError::CarryOver { what: "the bans of IPv6 and of prefixes", entries: count };
            loaded.restore_wide(&entry, now).map_err(full)?;
            count += 1;
        }
        Ok(count)
    }
}

/// The members of the feed set in force, prefixes of IPv4 as the /24s that they cover.
fn members(folder: &Path) -> Result<Vec<Target>, KernelError> {
    let control: Mapped<ControlCell> = open(folder, "CONTROL")?;
    let generation = (control[0].feed_generation.load(Relaxed) & 1) as usize;
    let hosts: Mapped<FeedCell> = open(folder, "FEED_HOSTS")?;
    let wide: Mapped<WideCell> = open(folder, "FEED_WIDE")?;
    let marks4: Mapped<AtomicU64> = open(folder, "FEED_MARKS4")?;
    let half = |all: usize| (all / 2) * generation..(all / 2) * (generation + 1);
    let mut members: Vec<Target> = hosts[half(hosts.len())]
        .iter()
        .flat_map(|cell| &cell.addresses)
        .map(|address| address.load(Relaxed))
        .filter(|address| *address != 0)
        .map(|address| Target::of(Wide::mapped(address), 128))
        .collect();
    let buckets = &wide[half(wide.len())];
    let hits: Vec<[AtomicU32; 4]> = buckets.iter().map(|_| [const { AtomicU32::new(0) }; 4]).collect();
    let table = WideTable { buckets, hits: &hits, key: NO_KEY };
    members.extend(
        table
            .entries(0..buckets.len())
            .filter(|(_, entry)| entry.tag != Tag::EMPTY)
            .map(|(_, entry)| Target::of(entry.piece.address, (entry.piece.bytes() * 8) as u8)),
    );
    for (number, word) in marks4[V4_WORDS as usize * generation..][..V4_WORDS as usize].iter().enumerate() {
        let word = word.load(Relaxed);
        for field in (0..FIELDS).filter(|field| word >> (field * 2) & marks::PREFIX != 0) {
            let network = (number as u32 * FIELDS + field) << 8;
            members.push(Target::of(Wide::mapped(network), 120));
        }
    }
    Ok(members)
}

/// A pinned array of a generation, mapped; its values must have the size of the cell.
fn open<T: Cell>(folder: &Path, name: &str) -> Result<Mapped<T>, KernelError> {
    let map = MapData::from_pin(folder.join(name)).map_err(|error| load_error(&error))?;
    let info = map.info().map_err(|error| load_error(&error))?;
    if info.value_size() as usize != size_of::<T>() {
        return Err(KernelError::Load { message: format!("{}/{name} has another layout", folder.display()) });
    }
    Mapped::new(map.fd().as_fd(), info.max_entries())
        .map_err(|error| KernelError::from_io(format!("mapping {}/{name}", folder.display()), error))
}
