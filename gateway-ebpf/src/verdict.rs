//! From a finding to an action, and the counting of both.

use aya_ebpf::bindings::{
    xdp_action::{XDP_DROP, XDP_PASS},
    xdp_md,
};
use gateway_common::{
    reason::{BAN_REASONS, BanReason, Mode, PARTS, PROTOS, Part, REASONS, Reason},
    stats::CpuStats,
};

use crate::{
    allow::{self, Source},
    capture, events,
    scene::{self, Judged},
};

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

    /// A finding of a packet that breaks its format; `fault`: the code of the reason.
    #[inline(always)]
    pub fn malformed(fault: u32) -> Self {
        Self(u64::from(fault) | (Part::Malformed as u64) << 16)
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

/// Carries out a finding: `Some` action ends the packet's way, `None` lets the next check look. `part`: that which found it.
///
/// A packet of a flood has nothing to ask: its source is not near the allowlist, the part enforces, the budget of events is
/// spent and nobody captures. That case is done on the spot, the rest is left to [`weigh`].
#[inline(always)]
pub fn carry_out(
    judged: &Judged,
    record: &mut CpuStats,
    source: Source,
    part: Part,
    finding: Finding,
) -> Option<u32> {
    let word = finding.word();
    if judged.modes.get(part) == Mode::Enforce
        && record.events_spent == judged.jiffies
        && judged.control.capture_reasons == 0
        && !allow::near(source)
    {
        if part as u8 == Part::Bans as u8 {
            record.bans[(word >> 8) as usize & (BAN_REASONS - 1)] += 1;
        }
        count(record, word as u32, judged.length);
        return Some(XDP_DROP);
    }
    judged.write_down(record, source);
    match weigh(judged.ctx, word) {
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
    let length = record.scene.length;
    if allow::allowed(Source::of(record.scene.source)) {
        count(record, Reason::Allowed as u32, length);
        return XDP_PASS;
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
    count(record, reason, length);
    XDP_DROP
}

/// Counts a verdict.
#[inline(always)]
pub fn count(record: &mut CpuStats, reason: u32, length: u32) {
    let reason = reason as usize & (REASONS - 1);
    record.packets[reason][record.scene.proto as usize & (PROTOS - 1)] += 1;
    record.bytes[reason] += u64::from(length);
}

/// Counts a packet that passes.
#[inline(always)]
pub fn pass(judged: &Judged, record: &mut CpuStats, reason: Reason) -> u32 {
    count(record, reason as u32, judged.length);
    XDP_PASS
}
