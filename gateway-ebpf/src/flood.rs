//! Defences against floods of many sources: the sketch of those without a cell, and the gate for new connections.

use aya_ebpf::bindings::{xdp_action::XDP_PASS, xdp_action::XDP_TX, xdp_md};
use gateway_common::{
    flood::{self, COLUMNS, ROWS},
    gcra,
    ports::COOKIES,
    reason::{Mode, Part, Reason},
    stats::CpuStats,
};

use crate::{
    allow::{self, Source},
    cookie,
    limit::exchange,
    maps::{self, control, gate},
    scene::{self, Judged},
    verdict::{Finding, carry_out, count, pass},
};

/// Counts a packet of an untracked source; true when the source has sent too many in this window.
#[inline(always)]
pub fn heavy(judged: &Judged, record: &mut CpuStats, hash: u64) -> bool {
    let control = judged.control;
    if control.heavy == 0 {
        return false;
    }
    let sketch = &mut record.sketch;
    let window = judged.jiffies >> (control.window_shift & 31);
    if sketch.window != window {
        empty_sketch(window);
    }
    sketch.total += 1;
    let mixed = flood::mix(hash, control.sketch_seed);
    let most = flood::most(control.heavy, sketch.total);
    let mut all = -1;
    let mut row = 0;
    while row < ROWS {
        let counter = &mut sketch.counters[flood::index(mixed, row)];
        *counter += 1;
        all &= flood::beyond(*counter, most);
        row += 1;
    }
    all < 0
}

/// Begins a window. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn empty_sketch(window: u64) -> u64 {
    let Some(record) = scene::record() else { return 0 };
    record.sketch.window = window;
    record.sketch.total = 0;
    // SAFETY: inside the counters. Word by word, as a call of memset is nothing that the verifier knows.
    unsafe {
        let words = (&raw mut record.sketch.counters).cast::<u64>();
        let mut at = 0;
        while at < ROWS * COLUMNS / 2 {
            core::ptr::write_volatile(words.add(at), 0);
            at += 1;
        }
    }
    1
}

/// Takes one new connection out of the gate; true when there is none left for now. CPUs take a few at once, so that they
/// seldom meet at the one word that counts for the whole host.
#[inline(always)]
pub fn gate_shut(judged: &Judged, record: &mut CpuStats) -> bool {
    let (control, jiffies) = (judged.control, judged.jiffies);
    if control.gate.cost == 0 {
        return false;
    }
    if record.gate_left != 0 {
        record.gate_left -= 1;
        return false;
    }
    if record.gate_refused == jiffies {
        return true;
    }
    let place = gate();
    // SAFETY: the element is one word; other CPUs write it whole.
    let seen = unsafe { core::ptr::read_volatile(place) };
    let batch = u64::from(control.gate_batch);
    let Some(next) = gcra::step(seen, gcra::now(jiffies), &control.gate, batch) else {
        record.gate_refused = jiffies;
        return true;
    };
    // Lost to another CPU: this one passes, the next tries again.
    if exchange(place, seen, next) {
        record.gate_left = batch.wrapping_sub(1);
    }
    false
}

/// What becomes of a new connection that finds the gate shut: a cookie where the port is protected, else refusal.
/// `plain`: offset of the IP header if the TCP header follows it directly, else zero; `port`: the destination. Exported, so that the verifier checks
/// it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn refuse(ctx: *mut xdp_md, plain: u64, port: u64) -> u32 {
    let (Some(record), control) = (scene::record(), control()) else { return XDP_PASS };
    let port = port as u32 & 0xffff;
    let judged = Judged::read_back(ctx, control, record);
    let source = Source::of(record.scene.source);
    let protected = plain != 0 && maps::ports(COOKIES + port / 64) >> (port % 64) & 1 != 0;
    if protected {
        let enforce = judged.modes.get(Part::Flood) == Mode::Enforce;
        if enforce && !allow::allowed(source) {
            let v6 = u64::from(source.v4.is_none());
            match cookie::answer_syn(ctx, plain, v6) {
                cookie::SENT => {
                    count(record, Reason::SynCookie as u32, judged.length);
                    return XDP_TX;
                }
                cookie::NOT_NEEDED => return pass(&judged, record, Reason::Clean),
                _ => {}
            }
        } else if !enforce {
            let finding = Finding::new(Reason::SynCookie);
            return carry_out(&judged, record, source, Part::Flood, finding)
                .unwrap_or_else(|| pass(&judged, record, Reason::Clean));
        }
    }
    let finding = Finding::new(Reason::SynGate);
    carry_out(&judged, record, source, Part::Flood, finding)
        .unwrap_or_else(|| pass(&judged, record, Reason::Clean))
}
