//! Sampled drops for the daemon, under a budget for each CPU and jiffy.

use aya_ebpf::bindings::xdp_md;
use gateway_common::{event::DropRecord, stats::CpuStats};

use crate::{
    look,
    maps::{EVENTS, control},
};

/// Sends an event if the budget allows. `word`: that of the finding.
#[inline(always)]
pub fn sample(ctx: *mut xdp_md, record: &mut CpuStats, word: u64, dropped: bool) {
    let jiffies = record.scene.jiffies;
    if record.event_tick != jiffies {
        record.event_tick = jiffies;
        record.event_left = u64::from(control().event_budget);
    }
    if record.event_left == 0 {
        record.events_spent = jiffies;
        return;
    }
    record.event_left -= 1;
    look::look_further(ctx);
    let Some(mut entry) = EVENTS.reserve_untyped::<DropRecord>(0) else { return };
    let scene = &record.scene;
    // SAFETY: the context is the kernel's, unless it handed none.
    let interface = if ctx.is_null() { 0 } else { unsafe { (*ctx).ingress_ifindex } };
    entry.write(DropRecord {
        jiffies,
        source: [scene.source.high, scene.source.low],
        destination: [scene.destination.high, scene.destination.low],
        interface,
        length: scene.length,
        matched: (word >> 32) as u32,
        source_port: (scene.ports >> 16) as u16,
        destination_port: scene.ports as u16,
        reason: word as u8,
        protocol: scene.protocol as u8,
        tcp_flags: scene.tcp_flags as u8,
        ban_reason: (word >> 8) as u8 & 15,
        dropped: u32::from(dropped),
    });
    entry.submit(0);
    record.events += 1;
}
