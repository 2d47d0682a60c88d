//! This CPU's record, reached from anywhere in the program.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use gateway_common::{
    reason::{Mode, Modes, Part},
    stats::CpuStats,
};

use crate::maps::STATS;

/// The record of the CPU that runs this; no other program writes it meanwhile.
#[inline(always)]
pub fn record() -> Option<&'static mut CpuStats> {
    // SAFETY: a helper without arguments; the element lives as long as the map, and XDP programs on one CPU run one
    // after the other.
    unsafe { STATS.get_ptr_mut(bpf_get_smp_processor_id()).map(|record| &mut *record) }
}

/// True when a part does anything at all.
#[inline(always)]
pub fn on(record: &CpuStats, part: Part) -> bool {
    Modes(record.scene.modes).get(part) != Mode::Off
}
