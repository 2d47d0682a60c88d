//! Limits for each source: packets, bytes, new connections; a bar after many violations.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use gateway_common::{
    control::Control,
    gcra::{self, CELL_WAYS, CLASSES, CellBucket, Kind, Limit, TAT_MASK},
    hash::{hash_v4, hash_wide},
    packet::is_new_connection,
    policy::ALLOW,
    reason::{Part, Reason},
    stats::CpuStats,
};

use crate::{
    allow,
    maps::{CELLS, CONTROL, LIMITS},
    scene,
};

/// Reasons of the three limits, in the order of their kinds.
const FIRST_REASON: u64 = Reason::RatePackets as u64;
const _: () =
    assert!(Reason::RateBytes as u64 == FIRST_REASON + 1 && Reason::RateSyn as u64 == FIRST_REASON + 2);

/// The reason to drop the packet of the scene and its class, as a word of a finding, or zero.
///
/// Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn over_limit(jiffies: u64) -> u64 {
    let (Some(control), Some(record)) = (CONTROL.get(0), scene::record()) else { return 0 };
    let mut class = 0;
    if let Some(policy) = allow::policy(&record.scene) {
        if policy.flags & ALLOW != 0 {
            return 0;
        }
        class = policy.class & (CLASSES - 1);
    }
    let Some(limits) = LIMITS.get(class) else { return 0 };
    let source = record.scene.source;
    let hash = match source.as_v4() {
        Some(v4) => hash_v4(&control.key, v4),
        None => hash_wide(&control.key, source.high, 0, 8),
    };
    let Some(bucket) = CELLS.get_ptr_mut(hash as u32 & control.cell_mask) else { return 0 };
    let now = gcra::now(jiffies);
    let matched = u64::from(class) << 32 | (Part::Limits as u64) << 16;
    if limits.penalty != 0 && barred(bucket, hash, now) != 0 {
        return Reason::Penalty as u64 | matched;
    }
    let mut over = 0;
    let mut kind = 0u64;
    while kind < 3 {
        let limit = &limits.limits[kind as usize];
        let units = match kind {
            0 => 1,
            1 => u64::from(record.scene.length),
            _ => {
                let tcp = record.scene.protocol == 6;
                u64::from(tcp && is_new_connection(record.scene.tcp_flags as u8))
            }
        };
        if limit.cost != 0
            && units != 0
            && spend(bucket, gcra::tag(hash, kind), now, limit, units, record, control) == 0
        {
            over = FIRST_REASON + kind;
            break;
        }
        kind += 1;
    }
    if over == 0 {
        return 0;
    }
    if limits.penalty != 0 {
        let tag = gcra::tag(hash, Kind::Violations as u64);
        if spend(bucket, tag, now, &limits.violations, 1, record, control) == 0 {
            bar(bucket, hash, now, limits.penalty);
        }
    }
    over | matched
}

/// Takes units from a source's cell: 1 when that is within its limit, 0 when not. A cell lost to another CPU is tried
/// once more; lost again, the packet passes.
#[inline(always)]
fn spend(
    bucket: *mut CellBucket,
    tag: u64,
    now: u64,
    limit: &Limit,
    units: u64,
    record: &mut CpuStats,
    control: &Control,
) -> u64 {
    let mut tries = 0;
    while tries < 2 {
        let mut way = find(bucket, tag);
        if way == ABSENT {
            // A source that is new takes a cell from another. In a flood of ever new sources that is most of the work,
            // so there is a budget for it; over the budget a new source passes, as it would anyway.
            if !may_insert(record, control) {
                return 1;
            }
            way = mine_or_stalest(bucket, tag, now);
        }
        // SAFETY: a way of the bucket, which is a map element.
        let place = unsafe { (*bucket).cells.as_mut_ptr().add(way as usize & (CELL_WAYS - 1)) };
        // SAFETY: as above; other CPUs write whole words.
        let cell = unsafe { core::ptr::read_volatile(place) };
        let known = if gcra::tagged(cell, tag) { cell } else { now.wrapping_sub(1) & TAT_MASK };
        let next = gcra::step(known, now, limit, units);
        if next == u64::MAX {
            return 0;
        }
        if exchange(place, cell, tag | next) {
            return 1;
        }
        tries += 1;
    }
    1
}

#[inline(always)]
fn may_insert(record: &mut CpuStats, control: &Control) -> bool {
    if record.insert_tick != record.scene.jiffies {
        record.insert_tick = record.scene.jiffies;
        record.insert_left = u64::from(control.insert_budget);
    }
    if record.insert_left == 0 {
        return false;
    }
    record.insert_left -= 1;
    true
}

/// No cell carries the tag.
const ABSENT: u64 = CELL_WAYS as u64;

/// The way that carries the tag, or [`ABSENT`].
#[inline(always)]
fn find(bucket: *mut CellBucket, tag: u64) -> u64 {
    let mut way = 0;
    while way < CELL_WAYS {
        // SAFETY: the bucket is a map element with as many cells.
        let cell = unsafe { core::ptr::read_volatile((*bucket).cells.as_ptr().add(way)) };
        if gcra::tagged(cell, tag) {
            return way as u64;
        }
        way += 1;
    }
    ABSENT
}

/// The way that has been idle longest; or the one that carries the tag by now, as another CPU may just have put it there.
/// Without that look two CPUs that meet a source for the first time at once would each give it a burst of its own.
#[inline(always)]
fn mine_or_stalest(bucket: *mut CellBucket, tag: u64, now: u64) -> u64 {
    let mut stalest = 0;
    let mut longest = 0;
    let mut way = 0;
    while way < CELL_WAYS {
        // SAFETY: the bucket is a map element with as many cells.
        let cell = unsafe { core::ptr::read_volatile((*bucket).cells.as_ptr().add(way)) };
        if gcra::tagged(cell, tag) {
            return way as u64;
        }
        let idle = if cell == 0 { TAT_MASK } else { gcra::idle(cell, now) };
        if idle > longest {
            longest = idle;
            stalest = way as u64;
        }
        way += 1;
    }
    stalest
}

/// One while the source is barred.
#[inline(always)]
fn barred(bucket: *mut CellBucket, hash: u64, now: u64) -> u64 {
    let way = find(bucket, gcra::tag(hash, Kind::Penalty as u64));
    if way == ABSENT {
        return 0;
    }
    // SAFETY: a way of the bucket, which is a map element.
    let cell =
        unsafe { core::ptr::read_volatile((*bucket).cells.as_ptr().add(way as usize & (CELL_WAYS - 1))) };
    u64::from(gcra::ahead(cell, now, TAT_MASK >> 1) != 0)
}

/// Bars the source for a time.
#[inline(always)]
fn bar(bucket: *mut CellBucket, hash: u64, now: u64, penalty: u64) {
    let tag = gcra::tag(hash, Kind::Penalty as u64);
    let mut way = find(bucket, tag);
    if way == ABSENT {
        way = mine_or_stalest(bucket, tag, now);
    }
    // SAFETY: a way of the bucket, which is a map element.
    unsafe {
        let place = (*bucket).cells.as_mut_ptr().add(way as usize & (CELL_WAYS - 1));
        core::ptr::write_volatile(place, tag | (now.wrapping_add(penalty) & TAT_MASK));
    }
}

#[inline(always)]
fn exchange(place: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: a word of a map element. Sequentially consistent, as weaker orders are miscompiled for BPF
    // (llvm/llvm-project#210280) and cost the same.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(place, old, new).1 }
}
