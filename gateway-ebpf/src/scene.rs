//! What is known of the packet under judgement, and this CPU's record.

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_get_smp_processor_id};
use gateway_common::{
    address::Wide,
    control::Control,
    reason::Modes,
    stats::{CpuStats, Scene},
};

use crate::{allow::Source, maps::STATS};

/// What every check knows. It stays in registers; functions that the verifier checks on their own find it in the record's
/// scene, where [`write_down`](Self::write_down) puts it for them, which few packets need.
#[derive(Clone, Copy)]
pub struct Judged {
    /// The kernel's.
    pub ctx: *mut xdp_md,
    /// Settings.
    pub control: &'static Control,
    /// Now.
    pub jiffies: u64,
    /// Modes that count now.
    pub modes: Modes,
    /// Bytes of the frame.
    pub length: u32,
}

impl Judged {
    /// Leaves it in the record.
    #[inline(always)]
    pub fn write_down(&self, record: &mut CpuStats, source: Source) {
        let scene = &mut record.scene;
        scene.length = self.length;
        scene.modes = self.modes.0;
        set_source(scene, source.wide());
    }

    /// What [`write_down`](Self::write_down) left.
    #[inline(always)]
    pub fn read_back(ctx: *mut xdp_md, control: &'static Control, record: &CpuStats) -> Self {
        let scene = &record.scene;
        Self { ctx, control, jiffies: scene.jiffies, modes: Modes(scene.modes), length: scene.length }
    }
}

/// Writes the source.
#[inline(always)]
pub fn set_source(scene: &mut Scene, source: Wide) {
    // SAFETY: fields of the scene. Written one by one: a run of zeros would become a call of memset, which the verifier refuses.
    unsafe {
        core::ptr::write_volatile(&raw mut scene.source.high, source.high);
        core::ptr::write_volatile(&raw mut scene.source.low, source.low);
    }
}

/// The record of the CPU that runs this; no other program writes it meanwhile.
#[inline(always)]
pub fn record() -> Option<&'static mut CpuStats> {
    // SAFETY: a helper without arguments; the element lives as long as the map, and XDP programs on one CPU run one
    // after the other.
    unsafe { STATS.get_ptr_mut(bpf_get_smp_processor_id()).map(|record| &mut *record) }
}
