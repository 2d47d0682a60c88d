//! From a finding to an action, and the counting of both.

use aya_ebpf::bindings::{
    xdp_action::{XDP_DROP, XDP_PASS},
    xdp_md,
};
use gateway_common::{
    control::Control,
    reason::{BAN_REASONS, BanReason, Mode, PARTS, PROTOS, REASONS, Reason},
    stats::CpuStats,
};

use crate::{allow, capture, events, scene};

/// Something a check has against a packet, in one word: reason, the ban's reason, the part, which entry.
#[derive(Clone, Copy)]
pub struct Finding(u64);

impl Finding {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// A finding of a ban entry.
    #[inline(always)]
    pub fn ban(reason: Reason, ban_reason: u8, matched: u32) -> Self {
        let part = reason.part() as u64;
        Self(reason as u64 | u64::from(ban_reason) << 8 | part << 16 | u64::from(matched) << 32)
    }

    /// A finding without a ban behind it.
    #[inline(always)]
    pub fn new(reason: Reason) -> Self {
        Self::ban(reason, BanReason::Unspecified.code(), 0)
    }

    /// As a number, to cross a function boundary.
    #[inline(always)]
    pub fn word(self) -> u64 {
        self.0
    }

    /// From a number.
    #[inline(always)]
    pub fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// True when there is something.
    #[inline(always)]
    pub fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// What [`weigh`] says when the next check may look.
const CONTINUE: u32 = u32::MAX;

/// Carries out a finding: `Some` action ends the packet's way, `None` lets the next check look.
///
/// A packet of a flood has nothing to ask: its source is not near the allowlist, the part enforces, the budget of events is
/// spent and nobody captures. That case is done on the spot, the rest is left to [`weigh`].
#[inline(always)]
pub fn carry_out(
    ctx: *mut xdp_md,
    control: &Control,
    record: &mut CpuStats,
    finding: Finding,
) -> Option<u32> {
    let word = finding.word();
    let scene = &record.scene;
    let enforce = scene.modes >> ((word >> 16 & (PARTS as u64 - 1)) * 2) & 3 == Mode::Enforce as u32;
    let spent = record.event_tick == scene.jiffies && record.event_left == 0;
    if enforce && spent && control.capture_reasons == 0 && !allow::near(scene) {
        record.events_lost += 1;
        let reason = word as u32 & (REASONS as u32 - 1);
        if reason == Reason::BanHost as u32 || reason == Reason::BanPrefix as u32 {
            record.bans[(word >> 8) as usize & (BAN_REASONS - 1)] += 1;
        }
        return Some(finish(record, reason, XDP_DROP));
    }
    match weigh(ctx, word) {
        CONTINUE => None,
        XDP_DROP => Some(XDP_DROP),
        _ => Some(XDP_PASS),
    }
}

/// Allowlist, mode, event and count for a finding. Exported so that the verifier checks it once, not at each call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weigh(ctx: *mut xdp_md, word: u64) -> u32 {
    let Some(record) = scene::record() else { return XDP_PASS };
    let reason = word as u32 & (REASONS as u32 - 1);
    let ban_reason = (word >> 8) as u32 & 15;
    if allow::allowed(&record.scene) {
        return finish(record, Reason::Allowed as u32, XDP_PASS);
    }
    let part = (word >> 16) as u32 & (PARTS as u32 - 1);
    let drop = record.scene.modes >> (part * 2) & 3 == Mode::Enforce as u32;
    events::sample(ctx, record, word, drop);
    if capture::wanted(reason) {
        capture::copy_packet(ctx, u64::from(reason));
    }
    if !drop {
        record.observed[reason as usize] += 1;
        return CONTINUE;
    }
    if reason == Reason::BanHost as u32 || reason == Reason::BanPrefix as u32 {
        record.bans[ban_reason as usize] += 1;
    }
    finish(record, reason, XDP_DROP)
}

/// Counts the verdict and returns the action.
#[inline(always)]
pub fn finish(record: &mut CpuStats, reason: u32, action: u32) -> u32 {
    let reason = reason as usize & (REASONS - 1);
    record.packets[reason][record.scene.proto as usize & (PROTOS - 1)] += 1;
    record.bytes[reason] += u64::from(record.scene.length);
    action
}

/// Counts a packet that passes.
#[inline(always)]
pub fn pass(record: &mut CpuStats, reason: Reason) -> u32 {
    finish(record, reason as u32, XDP_PASS)
}
