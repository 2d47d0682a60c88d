//! Jiffies and the monotonic clock side by side, for the daemon.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
};

use crate::maps::CLOCK;

/// Writes both clocks to the map.
#[inline(always)]
pub fn run() -> u32 {
    if let Some(readings) = CLOCK.get_ptr_mut(0) {
        // SAFETY: the element has two words; helpers without arguments.
        unsafe {
            (*readings)[0] = bpf_jiffies64();
            (*readings)[1] = bpf_ktime_get_ns();
        }
    }
    XDP_PASS
}
