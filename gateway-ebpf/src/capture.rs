//! Copies of dropped packets, when someone wants them.

use aya_ebpf::bindings::xdp_md;
use gateway_common::capture::{CAPTURE_BYTES, CaptureRecord};

use crate::{
    maps::{CAPTURE, control},
    scene,
};

/// Whole words that are copied.
const WORDS: usize = CAPTURE_BYTES / 8;

/// True when packets with this reason are captured.
#[inline(always)]
pub fn wanted(reason: u32) -> bool {
    control().capture_reasons >> (reason & 31) & 1 != 0
}

/// Copies the packet of the context, under the budget. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copy_packet(ctx: *mut xdp_md, reason: u64) -> u64 {
    let (Some(record), control) = (scene::record(), control()) else { return 0 };
    if ctx.is_null() {
        return 0;
    }
    if record.capture_tick != record.scene.jiffies {
        record.capture_tick = record.scene.jiffies;
        record.capture_left = u64::from(control.capture_budget);
    }
    if record.capture_left == 0 {
        record.capture_lost += 1;
        return 0;
    }
    record.capture_left -= 1;
    let Some(mut entry) = CAPTURE.reserve_untyped::<CaptureRecord>(0) else {
        record.capture_lost += 1;
        return 0;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: `out` is the reserved record; the packet is read only where it was checked to reach.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        (*out).jiffies = record.scene.jiffies;
        (*out).interface = (*ctx).ingress_ifindex;
        (*out).length = record.scene.length;
        (*out).reason = reason as u32;
        let data = (&raw mut (*out).data).cast::<u8>();
        let mut copied = 0;
        while copied < WORDS {
            let from = start + copied * 8;
            if from + 8 > end {
                break;
            }
            *data.add(copied * 8).cast::<u64>() = *(from as *const u64);
            copied += 1;
        }
        let mut bytes = copied * 8;
        let mut tail = 0;
        while tail < 7 && bytes < CAPTURE_BYTES {
            let from = start + bytes;
            // As `from >= end` the verifier would not see that the byte is there; LLVM would write it so.
            if core::hint::black_box(from + 1) > end {
                break;
            }
            *data.add(bytes) = *(from as *const u8);
            bytes += 1;
            tail += 1;
        }
        (*out).captured = bytes as u32;
    }
    entry.submit(0);
    1
}
