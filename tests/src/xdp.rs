//! Packets and a private kernel side for the XDP table tests.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use gateway::kernel::{Kernel, KernelConfig, Mode, Modes, Reason};
use gateway_common::gcra::{CELL_WAYS, TICK_BITS};

pub mod packet;
pub mod pair;

/// `XDP_DROP`.
pub const DROP: u32 = 1;
/// `XDP_PASS`.
pub const PASS: u32 = 2;
/// `XDP_TX`.
pub const TX: u32 = 3;

/// A kernel side of the test's own, with its own maps; gone when dropped.
pub struct Lab {
    kernel: Option<Kernel>,
    root: std::path::PathBuf,
}

impl Lab {
    /// Small tables, everything enforced, nothing attached.
    ///
    /// # Errors
    /// Without root, with the sentence of the kernel side.
    pub fn new() -> Result<Self> {
        Self::with(|_| {})
    }

    /// As [`new`](Self::new), with changed settings.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with(change: impl FnOnce(&mut KernelConfig)) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let root = std::path::Path::new("/sys/fs/bpf").join(name);
        let mut config = KernelConfig {
            pin_root: root.clone(),
            capacity_hosts: 10_000,
            capacity_wide: 10_000,
            capacity_sources: 10_000,
            capacity_feed_hosts: 10_000,
            capacity_feed_wide: 10_000,
            ..KernelConfig::default()
        };
        change(&mut config);
        let root = config.pin_root.clone();
        let kernel = Kernel::open(&config).context("the XDP tests need root and a kernel with BPF")?;
        kernel.set_modes(Modes::all(Mode::Enforce));
        Ok(Self { kernel: Some(kernel), root })
    }

    /// The kernel side.
    ///
    /// # Panics
    /// Never: it is there until drop.
    pub fn kernel(&self) -> &Kernel {
        self.kernel.as_ref().expect("open until dropped")
    }

    /// Runs one packet and wants a verdict and the reason counted for it, once, and no other.
    ///
    /// # Errors
    /// When it went otherwise.
    pub fn expect(&self, name: &str, packet: &[u8], action: u32, reason: Reason) -> Result<()> {
        self.expect_one_of(name, packet, action, &[reason])
    }

    /// As [`expect`](Self::expect), with several reasons that are right.
    ///
    /// # Errors
    /// When it went otherwise.
    pub fn expect_one_of(&self, name: &str, packet: &[u8], action: u32, reasons: &[Reason]) -> Result<()> {
        let before = self.kernel().stats();
        let run = self.kernel().test_run(packet, 1).with_context(|| format!("{name}: test run"))?;
        let after = self.kernel().stats();
        let counted: Vec<Reason> = Reason::ALL
            .iter()
            .copied()
            .filter(|reason| after.packets(*reason) == before.packets(*reason) + 1)
            .collect();
        let total = |stats: &gateway::kernel::Stats| stats.passed + stats.dropped;
        ensure!(
            run.action == action && counted.len() == 1 && reasons.contains(&counted[0]),
            "{name}: wanted action {action} for one of {reasons:?}, got {} for {counted:?}",
            run.action
        );
        ensure!(total(&after) == total(&before) + 1, "{name}: not counted once");
        Ok(())
    }

    /// As if so many jiffies had gone by: every cell of the limiter and the gate was written so much earlier.
    ///
    /// # Errors
    /// When their maps can't be read or written, or one of their words was never set.
    pub fn let_pass(&self, jiffies: u64) -> Result<()> {
        let earlier = jiffies << TICK_BITS;
        let mut cells = self.map::<[u64; CELL_WAYS]>("CELLS")?;
        for place in 0..cells.len() {
            let bucket = cells.get(&place, 0)?;
            ensure!(!bucket.contains(&0), "a cell that is not set");
            cells.set(place, bucket.map(|cell| cell.wrapping_sub(earlier)), 0)?;
        }
        let mut gate = self.map::<u64>("GATE")?;
        gate.set(0, gate.get(&0, 0)?.wrapping_sub(earlier), 0).context("the gate")
    }

    fn map<T: aya::Pod>(&self, name: &str) -> Result<Array<MapData, T>> {
        for folder in std::fs::read_dir(&self.root)? {
            let pin = folder?.path().join(name);
            if pin.exists() {
                return Ok(Map::Array(MapData::from_pin(pin)?).try_into()?);
            }
        }
        anyhow::bail!("no map {name} in {}", self.root.display())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.take()
            && let Err(error) = kernel.uninstall()
        {
            eprintln!("{} is left behind: {error}", self.root.display());
        }
    }
}
