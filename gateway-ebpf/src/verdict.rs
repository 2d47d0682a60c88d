//! From a finding to an action, and the counting of both.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use gateway_common::reason::{BanReason, Mode, PROTOS, REASONS, Reason};

use crate::{allow, events, scene::Scene};

/// Something a check has against a packet.
#[derive(Clone, Copy)]
pub struct Finding {
    /// Why.
    pub reason: Reason,
    /// Code of the ban's reason.
    pub ban_reason: u8,
    /// Which entry.
    pub matched: u32,
}

impl Finding {
    /// A finding without a ban behind it.
    #[inline(always)]
    pub fn new(reason: Reason) -> Self {
        Self { reason, ban_reason: BanReason::Unspecified.code(), matched: 0 }
    }
}

/// Carries out a finding: `Some` action ends the packet's way, `None` lets the next check look.
#[inline(always)]
pub fn carry_out(scene: &Scene, finding: Finding) -> Option<u32> {
    let packed =
        finding.reason as u64 | (finding.ban_reason as u64) << 8 | (finding.matched as u64) << 32;
    match weigh(scene, packed) {
        CONTINUE => None,
        action => Some(action),
    }
}

const CONTINUE: u32 = u32::MAX;

/// One function in the object for all checks; its arguments fit in registers.
#[inline(never)]
fn weigh(scene: &Scene, packed: u64) -> u32 {
    let reason_code = packed as u32 & (REASONS as u32 - 1);
    let ban_reason = (packed >> 8) as u32 & 15;
    let part = part_of(reason_code);
    let mode = (scene.modes.0 >> (part * 2)) & 3;
    if allow::allowed(scene) {
        return finish(scene, Reason::Allowed as u32, XDP_PASS);
    }
    let drop = mode == Mode::Enforce as u32;
    events::sample(scene, reason_code, ban_reason, (packed >> 32) as u32, drop);
    if drop {
        // SAFETY: `stats` is this CPU's record and the index is below BAN_REASONS.
        unsafe { (*scene.stats).bans[ban_reason as usize] += u64::from(is_ban(reason_code)) };
        return finish(scene, reason_code, XDP_DROP);
    }
    // SAFETY: as above, the index is below REASONS.
    unsafe { (*scene.stats).observed[reason_code as usize] += 1 };
    CONTINUE
}

#[inline(always)]
fn is_ban(reason_code: u32) -> bool {
    reason_code == Reason::BanHost as u32 || reason_code == Reason::BanPrefix as u32
}

#[inline(always)]
fn part_of(reason_code: u32) -> u32 {
    match Reason::from_code(reason_code as u8) {
        Some(reason) => reason.part() as u32,
        None => 0,
    }
}

/// Counts the verdict and returns the action.
#[inline(always)]
pub fn finish(scene: &Scene, reason_code: u32, action: u32) -> u32 {
    count(scene, reason_code, scene.proto);
    action
}

/// Counts a packet that passes.
#[inline(always)]
pub fn pass(scene: &Scene, reason: Reason) -> u32 {
    finish(scene, reason as u32, XDP_PASS)
}

#[inline(always)]
fn count(scene: &Scene, reason_code: u32, proto: u32) {
    let reason = (reason_code as usize) & (REASONS - 1);
    // SAFETY: `stats` is this CPU's record, the program is not preempted by another of its kind on the same CPU, and
    // both indices are in range.
    unsafe {
        (*scene.stats).packets[reason][proto as usize & (PROTOS - 1)] += 1;
        (*scene.stats).bytes[reason] += u64::from(scene.length);
    }
}
