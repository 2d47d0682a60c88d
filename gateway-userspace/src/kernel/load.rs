//! Loading the object into the kernel: maps pinned or adopted, programs verified.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Relaxed, Release},
    },
};

use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{LpmTrie, Map, MapData, MapError, RingBuf, lpm_trie::Key},
    programs::{Program, ProgramError, Xdp},
};
use gateway_common::{
    SCHEMA,
    bans::{HOST_WAYS, WIDE_WAYS},
    feeds::FEED_WAYS,
    flood::window_shift,
    gcra::{CELL_WAYS, CLASSES, CellBucket, KNOWN},
    hash::HashKey,
    marks::{COARSE_WORDS, GUARD_WORDS, HOST_WORDS, NEAR_WORDS, V4_WORDS, V6_WORDS},
    policy::{POLICY_CAPACITY, Policy},
    ports,
};

use super::{
    KernelConfig,
    clock::Clock,
    direct,
    error::KernelError,
    feeds::Feeds,
    mapped::{Cell, ControlCell, FeedCell, HostCell, LimitCell, Mapped, StatsCell, WideCell},
    sys,
};

/// The compiled programs.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gateway.o"));

/// Sampled events of one CPU in one jiffy.
const EVENT_BUDGET: u32 = 8;

/// New sources that a CPU gives cells of the limiter in a second.
const NEW_SOURCES_A_SECOND: u64 = 100_000;

/// Captured packets of one CPU in one jiffy.
const CAPTURE_BUDGET: u32 = 64;

/// Names of the pinned programs, in lower case unlike those of maps.
pub const PROGRAM_PINS: [(&str, &str); 2] = [("program", "gateway"), ("program_frags", "gateway_frags")];

/// Numbers of elements of the maps whose size is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    host_buckets: u32,
    wide_buckets: u32,
    cell_buckets: u32,
    feed_host_buckets: u32,
    feed_wide_buckets: u32,
    cpus: u32,
}

/// Kernel memory of the tables that have a capacity, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Banned IPv4 hosts.
    pub hosts: u64,
    /// Banned IPv6 and prefixes.
    pub wide: u64,
    /// Cells of the limiter.
    pub sources: u64,
    /// IPv4 hosts of feeds, both generations.
    pub feed_hosts: u64,
    /// IPv6 of feeds, both generations.
    pub feed_wide: u64,
}

impl Shape {
    /// The shape for the capacities of a configuration: tables a quarter larger than asked, rounded up to a power of
    /// two, so that an insertion never has to search long.
    pub fn new(config: &KernelConfig) -> Result<Self, KernelError> {
        let buckets = |what, capacity: u32, ways: usize| {
            if !(1_000..=16_000_000).contains(&capacity) {
                return Err(KernelError::OutOfBounds {
                    what,
                    value: u64::from(capacity),
                    bounds: "from 1,000 to 16,000,000".into(),
                });
            }
            Ok((u64::from(capacity) * 5 / 4).div_ceil(ways as u64).next_power_of_two() as u32)
        };
        let cpus = sys::possible_cpus()
            .map_err(|error| KernelError::from_io("counting CPUs in /sys/devices/system/cpu", error))?;
        Ok(Self {
            host_buckets: buckets("the capacity for IPv4 hosts", config.capacity_hosts, HOST_WAYS)?,
            wide_buckets: buckets("the capacity for IPv6 and prefixes", config.capacity_wide, WIDE_WAYS)?,
            cell_buckets: buckets("the capacity for limited sources", config.capacity_sources, CELL_WAYS)?,
            feed_host_buckets: buckets(
                "the capacity for IPv4 hosts of feeds",
                config.capacity_feed_hosts,
                FEED_WAYS,
            )?,
            feed_wide_buckets: buckets(
                "the capacity for IPv6 of feeds",
                config.capacity_feed_wide,
                WIDE_WAYS,
            )?,
            cpus,
        })
    }

    /// Name of the pin folder: maps of another layout or size live in another folder.
    pub fn folder(&self) -> String {
        format!(
            "v{SCHEMA}-{}-{}-{}-{}-{}-{}",
            self.host_buckets,
            self.wide_buckets,
            self.cell_buckets,
            self.feed_host_buckets,
            self.feed_wide_buckets,
            self.cpus
        )
    }

    /// Kernel memory of each table that has a capacity, in bytes: what belongs to it beside its entries included.
    pub fn memory(&self) -> Memory {
        let bytes = |buckets: u32, each: usize| u64::from(buckets) * each as u64;
        Memory {
            hosts: bytes(self.host_buckets, size_of::<HostCell>() + HOST_WAYS * 4),
            wide: bytes(self.wide_buckets, size_of::<WideCell>() + 16),
            sources: bytes(self.cell_buckets, size_of::<CellBucket>()) + u64::from(KNOWN),
            feed_hosts: bytes(2 * self.feed_host_buckets, size_of::<FeedCell>()),
            feed_wide: bytes(2 * self.feed_wide_buckets, size_of::<WideCell>()),
        }
    }

    /// Every map with its number of elements, value size included for the check of adopted ones.
    fn maps(&self) -> [(&'static str, u32, u32); 25] {
        let size = |bytes: usize| bytes as u32;
        [
            ("CONTROL", 1, size(size_of::<ControlCell>())),
            ("STATS", self.cpus, size(size_of::<StatsCell>())),
            ("MARKS4", 1, V4_WORDS * 8),
            ("MARKS6", 1, V6_WORDS * 8),
            ("HOSTS", self.host_buckets, size(size_of::<HostCell>())),
            ("HOST_MARKS", 1, HOST_WORDS * 8),
            ("HOST_HITS", self.host_buckets, size(HOST_WAYS * 4)),
            ("WIDE", self.wide_buckets, size(size_of::<WideCell>())),
            ("WIDE_HITS", self.wide_buckets, 16),
            ("GUARD", 1, GUARD_WORDS * 8),
            ("POLICY", POLICY_CAPACITY, size(size_of::<Policy>())),
            ("EVENTS", 262_144, 0),
            ("CLOCK", 1, 16),
            ("CAPTURE", 1_048_576, 0),
            ("CELLS", self.cell_buckets, size(size_of::<CellBucket>())),
            ("KNOWN", 1, KNOWN),
            ("LIMITS", 1, CLASSES * size(size_of::<LimitCell>())),
            ("PORTS", 1, ports::WORDS * 8),
            ("FEED_MARKS4", 2 * V4_WORDS, 8),
            ("FEED_MARKS6", 1, 2 * V6_WORDS * 8),
            ("FEED_HOSTS", 2 * self.feed_host_buckets, size(size_of::<FeedCell>())),
            ("NEAR4", 1, NEAR_WORDS * 8),
            ("COARSE4", 1, COARSE_WORDS * 8),
            ("GATE", 1, 8),
            ("FEED_WIDE", 2 * self.feed_wide_buckets, size(size_of::<WideCell>())),
        ]
    }
}

/// The maps and programs in the kernel.
pub struct Loaded {
    ebpf: Ebpf,
    /// The programs' instructions name these until the kernel has taken them.
    _direct: direct::Maps,
    /// Settings.
    pub control: Mapped<ControlCell>,
    /// Counters.
    pub stats: Mapped<StatsCell>,
    /// Marks of IPv4 /24s.
    pub marks4: Mapped<AtomicU64>,
    /// Filter in front of everything that asks about an IPv4 source.
    pub near4: Mapped<AtomicU64>,
    /// Filter of /16s in front of what asks about prefixes.
    pub coarse4: Mapped<AtomicU64>,
    /// Marks of the feed, both generations, to rebuild the filter from.
    pub feed_marks4: Mapped<AtomicU64>,
    /// Runs of /24s that policy prefixes touch: the first, and how many.
    pub policy4: Vec<(u32, u32)>,
    /// Hashed marks of IPv4 hosts.
    pub host_marks: Mapped<AtomicU64>,
    /// Hashed marks of IPv6 pieces.
    pub marks6: Mapped<AtomicU64>,
    /// IPv4 hosts.
    pub hosts: Mapped<HostCell>,
    /// Their counters.
    pub host_hits: Mapped<[AtomicU32; HOST_WAYS]>,
    /// IPv6 and prefixes.
    pub wide: Mapped<WideCell>,
    /// Their counters.
    pub wide_hits: Mapped<[AtomicU32; 4]>,
    /// Limits by class.
    pub limits: Mapped<LimitCell>,
    /// Cells of the limiter: the kernel writes them, and a sweep those of long ago.
    pub cells: Mapped<[AtomicU64; CELL_WAYS]>,
    /// The gate for new connections: one cell, without a tag.
    pub gate: Mapped<AtomicU64>,
    /// Closed ports.
    pub ports: Mapped<AtomicU64>,
    /// Feed sets, until taken.
    pub feeds: Option<Feeds>,
    /// Policy guard.
    pub guard: Mapped<AtomicU64>,
    /// Policy trie.
    pub policy: LpmTrie<MapData, [u8; 16], PolicyPod>,
    /// Ring of events; taken by the reader.
    pub events: Option<RingBuf<MapData>>,
    /// Ring of captured packets; taken by the reader.
    pub captured: Option<RingBuf<MapData>>,
    /// The clock.
    pub clock: Clock,
    /// True when pinned maps were adopted.
    pub adopted: bool,
    /// True when a ban was lifted since the marks were made: some of them may have nothing behind them.
    pub marks_stale: AtomicBool,
    /// Sweeps since then.
    pub quiet_sweeps: AtomicU32,
}

/// [`Policy`] as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PolicyPod(pub Policy);

#[allow(unsafe_code)]
// SAFETY: two u32 without padding.
unsafe impl aya::Pod for PolicyPod {}

/// Key of the policy trie.
pub type PolicyKey = Key<[u8; 16]>;

impl Loaded {
    /// Loads the programs, with the maps pinned in `folder` or adopted from there. New maps count from
    /// [`complete`](Self::complete) on.
    pub fn new(
        folder: &Path,
        shape: &Shape,
        adopted: bool,
        object: Option<&Path>,
    ) -> Result<Self, KernelError> {
        fs::create_dir_all(folder)
            .map_err(|error| KernelError::from_io(format!("making {}", folder.display()), error))?;
        let (mut ebpf, direct) = load_object(folder, shape, object)?;
        check_maps(&ebpf, shape)?;
        let clock_program = load_program(&mut ebpf, "gateway_clock")?;
        let readings: Mapped<[AtomicU64; 2]> = mapped(&ebpf, "CLOCK", 1)?;
        let clock = Clock::read(clock_program.as_fd(), &readings[0])?;
        let policy_map = ebpf.take_map("POLICY").ok_or_else(|| missing("POLICY"))?;
        let policy = LpmTrie::try_from(policy_map).map_err(|error| load_error(&error))?;
        let events_map = ebpf.take_map("EVENTS").ok_or_else(|| missing("EVENTS"))?;
        let events = RingBuf::try_from(events_map).map_err(|error| load_error(&error))?;
        let capture_map = ebpf.take_map("CAPTURE").ok_or_else(|| missing("CAPTURE"))?;
        let captured = RingBuf::try_from(capture_map).map_err(|error| load_error(&error))?;
        let mut loaded = Self {
            control: mapped(&ebpf, "CONTROL", 1)?,
            stats: mapped(&ebpf, "STATS", shape.cpus)?,
            marks4: mapped(&ebpf, "MARKS4", V4_WORDS)?,
            near4: mapped(&ebpf, "NEAR4", NEAR_WORDS)?,
            coarse4: mapped(&ebpf, "COARSE4", COARSE_WORDS)?,
            feed_marks4: mapped(&ebpf, "FEED_MARKS4", 2 * V4_WORDS)?,
            policy4: Vec::new(),
            host_marks: mapped(&ebpf, "HOST_MARKS", HOST_WORDS)?,
            marks6: mapped(&ebpf, "MARKS6", V6_WORDS)?,
            hosts: mapped(&ebpf, "HOSTS", shape.host_buckets)?,
            host_hits: mapped(&ebpf, "HOST_HITS", shape.host_buckets)?,
            wide: mapped(&ebpf, "WIDE", shape.wide_buckets)?,
            wide_hits: mapped(&ebpf, "WIDE_HITS", shape.wide_buckets)?,
            limits: mapped(&ebpf, "LIMITS", CLASSES)?,
            cells: mapped(&ebpf, "CELLS", shape.cell_buckets)?,
            gate: mapped(&ebpf, "GATE", 1)?,
            ports: mapped(&ebpf, "PORTS", ports::WORDS)?,
            feeds: Some(Feeds {
                control: mapped(&ebpf, "CONTROL", 1)?,
                marks4: mapped(&ebpf, "FEED_MARKS4", 2 * V4_WORDS)?,
                marks6: mapped(&ebpf, "FEED_MARKS6", 2 * V6_WORDS)?,
                hosts: mapped(&ebpf, "FEED_HOSTS", 2 * shape.feed_host_buckets)?,
                wide: mapped(&ebpf, "FEED_WIDE", 2 * shape.feed_wide_buckets)?,
                swapped: None,
            }),
            guard: mapped(&ebpf, "GUARD", GUARD_WORDS)?,
            policy,
            events: Some(events),
            captured: Some(captured),
            clock,
            adopted,
            marks_stale: AtomicBool::new(adopted),
            quiet_sweeps: AtomicU32::new(0),
            ebpf,
            _direct: direct,
        };
        loaded.start(shape)?;
        loaded.program(false)?;
        Ok(loaded)
    }

    /// Fills in the settings of new maps, and those that every start renews.
    fn start(&mut self, shape: &Shape) -> Result<(), KernelError> {
        let control = &self.control[0];
        if !self.adopted {
            let words = sys::random_words::<2>()
                .map_err(|error| KernelError::from_io("reading random bytes for the tables' key", error))?;
            for (cell, word) in control.key.iter().zip(words) {
                cell.store(word, Relaxed);
            }
            control.host_mask.store(self.hosts.len() as u32 - 1, Relaxed);
            control.wide_mask.store(self.wide.len() as u32 - 1, Relaxed);
            control.event_budget.store(EVENT_BUDGET, Relaxed);
            control.heartbeat_deadline.store(u64::MAX, Relaxed);
            control.cell_mask.store(shape.cell_buckets - 1, Relaxed);
            control.feed_host_mask.store(shape.feed_host_buckets - 1, Relaxed);
            control.feed_wide_mask.store(shape.feed_wide_buckets - 1, Relaxed);
        }
        self.settle_cells(self.long_alone());
        control.expiry_shift.store(self.clock.shift(), Relaxed);
        control.capture_reasons.store(0, Relaxed);
        control.capture_budget.store(CAPTURE_BUDGET, Relaxed);
        control
            .insert_budget
            .store((NEW_SOURCES_A_SECOND / (1_000_000_000 / self.clock.tick_ns().max(1))) as u32, Relaxed);
        let [seed] = sys::random_words::<1>()
            .map_err(|error| KernelError::from_io("reading random bytes for the sketch's seed", error))?;
        control.sketch_seed.store(seed, Relaxed);
        control.window_shift.store(window_shift(self.clock.tick_ns()), Relaxed);
        control.tick_ns.store(self.clock.tick_ns() as u32, Relaxed);
        Ok(())
    }

    /// From here on these maps count: a later daemon adopts them. What was half filled before is thrown away.
    pub fn complete(&self) {
        self.control[0].schema.store(SCHEMA, Release);
    }

    /// Pins the programs in use, in place of those of the daemon before: whoever fails to replace them takes them
    /// back from there.
    pub fn pin_programs(&mut self, folder: &Path) -> Result<(), KernelError> {
        for (name, symbol) in PROGRAM_PINS {
            let Some(Ok(program)) = self.ebpf.program_mut(symbol).map(<&mut Xdp>::try_from) else { continue };
            let Ok(fd) = program.fd() else { continue };
            let path = folder.join(name);
            let _absent = fs::remove_file(&path);
            sys::pin(fd.as_fd(), &path)
                .map_err(|error| KernelError::from_io(format!("pinning {}", path.display()), error))?;
        }
        Ok(())
    }

    /// The programs that were in force before this daemon: those pinned with the maps it adopted, or with the newest
    /// generation before.
    pub fn programs_before(&self, root: &Path, folder: &Path) -> Vec<OwnedFd> {
        let mut folders = if self.adopted { vec![folder.to_owned()] } else { Vec::new() };
        folders.extend(super::carry::others(root, folder));
        let pins = folders.iter().flat_map(|folder| PROGRAM_PINS.map(|(name, _)| folder.join(name)));
        pins.filter_map(|pin| sys::open_pin(&pin).ok()).collect()
    }

    /// Key of the tables' hashes.
    pub fn key(&self) -> HashKey {
        let control = &self.control[0];
        HashKey { words: std::array::from_fn(|i| control.key[i].load(Relaxed)) }
    }

    /// The program for an interface: the plain one, or the one that takes frames in several buffers.
    pub fn program(&mut self, frags: bool) -> Result<OwnedFd, KernelError> {
        load_program(&mut self.ebpf, if frags { "gateway_frags" } else { "gateway" })
    }

    /// Any program of the object.
    pub fn named(&mut self, name: &str) -> Result<OwnedFd, KernelError> {
        load_program(&mut self.ebpf, name)
    }

    /// Instructions that the verifier walked through to accept the program (Linux 5.16 and later).
    pub fn verified_instructions(&mut self) -> Option<u32> {
        self.program(false).ok()?;
        let program: &mut Xdp = self.ebpf.program_mut("gateway")?.try_into().ok()?;
        program.info().ok()?.verified_instruction_count()
    }
}

/// The object with its maps, and those that its instructions name by descriptor.
fn load_object(
    folder: &Path,
    shape: &Shape,
    object: Option<&Path>,
) -> Result<(Ebpf, direct::Maps), KernelError> {
    let maps = shape.maps();
    let size = |name: &str| maps.iter().find(|(map, ..)| *map == name).map_or(0, |(.., bytes)| *bytes);
    let direct = direct::open(folder, size)?;
    let mut object = object.map_or_else(|| Ok(OBJECT.to_vec()), direct::read)?;
    direct::resolve(&mut object, &direct)?;
    let paths: Vec<PathBuf> = maps.iter().map(|(name, ..)| folder.join(name)).collect();
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::DISABLE | VerifierLogLevel::STATS);
    for ((name, count, _), path) in maps.iter().zip(&paths) {
        loader.map_max_entries(name, *count).map_pin_path(name, path.as_path());
    }
    let loaded = loader.load(&object).map_err(|error| match &error {
        EbpfError::MapError(MapError::CreateError { name, io_error, .. }) => {
            from_os(format!("making the BPF map {name}"), io_error.raw_os_error(), &error)
        }
        EbpfError::MapError(MapError::SyscallError(syscall)) => {
            from_os("making the BPF maps".to_owned(), syscall.io_error.raw_os_error(), &error)
        }
        other => load_error(other),
    })?;
    Ok((loaded, direct))
}

fn from_os(what: String, code: Option<i32>, error: &EbpfError) -> KernelError {
    match code {
        Some(code) => KernelError::from_io(what, std::io::Error::from_raw_os_error(code)),
        None => load_error(error),
    }
}

/// An error of aya with all its causes.
pub(super) fn load_error(error: &dyn std::error::Error) -> KernelError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        message.push_str(": ");
        message.push_str(&inner.to_string());
        cause = inner.source();
    }
    KernelError::Load { message }
}

fn missing(name: &str) -> KernelError {
    KernelError::Load { message: format!("the object has no {name}; build it again") }
}

fn map_data<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, KernelError> {
    match ebpf.map(name) {
        Some(Map::Array(data) | Map::LpmTrie(data) | Map::RingBuf(data)) => Ok(data),
        _ => Err(missing(name)),
    }
}

/// A pinned map of another size is taken without a word by the kernel: look at each.
fn check_maps(ebpf: &Ebpf, shape: &Shape) -> Result<(), KernelError> {
    for (name, count, value) in shape.maps() {
        let info = map_data(ebpf, name)?.info().map_err(|error| load_error(&error))?;
        if info.max_entries() != count || info.value_size() != value {
            return Err(KernelError::Load {
                message: format!(
                    "the pinned map {name} has {} entries of {} bytes, not {count} of {value}; remove it with `gateway xdp detach --all`",
                    info.max_entries(),
                    info.value_size()
                ),
            });
        }
    }
    Ok(())
}

fn mapped<T: Cell>(ebpf: &Ebpf, name: &str, count: u32) -> Result<Mapped<T>, KernelError> {
    Mapped::new(map_data(ebpf, name)?.fd().as_fd(), count)
        .map_err(|error| KernelError::from_io(format!("mapping the BPF map {name}"), error))
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<OwnedFd, KernelError> {
    let program: &mut Program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    let program: &mut Xdp = program.try_into().map_err(|error: ProgramError| load_error(&error))?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(ProgramError::LoadError { io_error, verifier_log })
            if io_error.raw_os_error() != Some(libc::EPERM) =>
        {
            return Err(KernelError::Load { message: format!("{name}: {io_error}\n{verifier_log}") });
        }
        Err(ProgramError::LoadError { io_error, .. }) => {
            return Err(KernelError::from_io(format!("loading the program {name}"), io_error));
        }
        Err(error) => return Err(load_error(&error)),
    }
    let fd = program.fd().map_err(|error| load_error(&error))?;
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|error| KernelError::from_io("duplicating the program's descriptor", error))
}
