//! Sampled drops for the daemon, under a budget for each CPU and jiffy.

use gateway_common::event::DropRecord;

use crate::{maps::EVENTS, scene::Scene};

/// Sends an event if the budget allows.
#[inline(always)]
pub fn sample(scene: &Scene, reason: u32, ban_reason: u32, matched: u32, dropped: bool) {
    // SAFETY: `stats` is this CPU's record; nothing else writes it while this packet is judged.
    let stats = unsafe { &mut *scene.stats };
    if stats.event_tick != scene.jiffies {
        stats.event_tick = scene.jiffies;
        stats.event_left = scene.control.event_budget as u64;
    }
    if stats.event_left == 0 {
        stats.events_lost += 1;
        return;
    }
    stats.event_left -= 1;
    let Some(mut entry) = EVENTS.reserve_untyped::<DropRecord>(0) else {
        stats.events_lost += 1;
        return;
    };
    // SAFETY: the context is the kernel's.
    let interface = unsafe { (*scene.ctx).ingress_ifindex };
    entry.write(DropRecord {
        jiffies: scene.jiffies,
        source: [scene.source.high, scene.source.low],
        destination: [scene.destination.high, scene.destination.low],
        interface,
        length: scene.length,
        matched,
        source_port: scene.source_port,
        destination_port: scene.destination_port,
        reason: reason as u8,
        protocol: scene.protocol,
        tcp_flags: scene.tcp_flags,
        ban_reason: ban_reason as u8,
        dropped: u32::from(dropped),
    });
    entry.submit(0);
    stats.events += 1;
}
