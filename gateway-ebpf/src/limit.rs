//! Limits for each source: packets, bytes, new connections; a bar after many violations.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use gateway_common::{
    control::Control,
    gcra::{self, CELL_WAYS, CLASSES, CellBucket, FARTHEST, Kind, Limit},
    policy::ALLOW,
    reason::{Part, Reason},
    stats::CpuStats,
};

use crate::{
    allow::{self, Source},
    maps::{self, CELLS, control, limits},
    scene::{self, Judged},
};

/// Reasons of the three limits, in the order of their kinds.
const FIRST_REASON: u64 = Reason::RatePackets as u64;
const _: () =
    assert!(Reason::RateBytes as u64 == FIRST_REASON + 1 && Reason::RateSyn as u64 == FIRST_REASON + 2);

/// The source has no cell, and the budget for new ones is spent: the sketch may look at it.
pub const UNTRACKED: u64 = 1 << 63;

/// Over the limit.
const OVER: u64 = 0;
/// Within it.
const WITHIN: u64 = 1;

/// The reason to drop the packet of the scene and its class, as a word of a finding; or zero, or [`UNTRACKED`].
/// `hash`: of the source (its /64 for IPv6). `near`: a policy prefix may match it. `SYN`: it asks for a new connection.
#[inline(always)]
pub fn check<const SYN: bool>(
    judged: &Judged,
    record: &mut CpuStats,
    source: Source,
    hash: u64,
    near: bool,
) -> u64 {
    let control = judged.control;
    let mut class = 0;
    if near && let Some(policy) = allow::policy(source) {
        if policy.flags & ALLOW != 0 {
            return 0;
        }
        class = policy.class & (CLASSES - 1);
    }
    let limits = limits(class);
    let [packets, bytes, connections] = &limits.limits;
    // In a flood of ever new sources most have no cell and get none: that is known before the cells are looked at.
    if spent(record) && (packets.cost | bytes.cost != 0 || (SYN && connections.cost != 0)) && !is_known(hash)
    {
        record.untracked += 1;
        return UNTRACKED;
    }
    let Some(bucket) = CELLS.get_ptr_mut(hash as u32 & control.cell_mask) else { return 0 };
    let now = gcra::now(judged.jiffies);
    let matched = u64::from(class) << 32 | (Part::Limits as u64) << 16;
    if limits.penalty != 0 && barred(bucket, hash, now) {
        know(hash);
        return Reason::Penalty as u64 | matched;
    }
    let (reason, state) = 'spent: {
        if packets.cost != 0 {
            let state = spend(bucket, hash, 0, now, packets, 1, class, record);
            if state != WITHIN {
                break 'spent (FIRST_REASON, state);
            }
        }
        if bytes.cost != 0 {
            let units = u64::from(judged.length);
            let state = spend(bucket, hash, 1, now, bytes, units, class, record);
            if state != WITHIN {
                break 'spent (FIRST_REASON + 1, state);
            }
        }
        if SYN && connections.cost != 0 {
            let state = spend(bucket, hash, 2, now, connections, 1, class, record);
            if state != WITHIN {
                break 'spent (FIRST_REASON + 2, state);
            }
        }
        if gcra::notes(hash, judged.jiffies) {
            know(hash);
        }
        return 0;
    };
    if state == UNTRACKED {
        record.untracked += 1;
        return UNTRACKED;
    }
    if limits.penalty != 0 {
        violated(hash, u64::from(class));
    }
    know(hash);
    reason | matched
}

/// Makes a source with a cell known: when it is over a limit, within its limits in one tick of a few, and when it is new and no flood.
#[inline(always)]
fn know(hash: u64) {
    maps::know(gcra::known_place(hash), gcra::fingerprint(hash));
}

/// True when the source is known to have a cell. One that shares its place and its fingerprint with another counts too.
#[inline(always)]
fn is_known(hash: u64) -> bool {
    maps::known(gcra::known_place(hash)) == gcra::fingerprint(hash)
}

/// Counts a packet over a limit, and bars the source that has too many. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn violated(hash: u64, class: u64) -> u64 {
    let Some(record) = scene::record() else { return 0 };
    let (control, limits) = (control(), limits(class as u32));
    let Some(bucket) = CELLS.get_ptr_mut(hash as u32 & control.cell_mask) else { return 0 };
    if spend_anywhere(hash, Kind::Violations as u64, 1, class) == OVER {
        bar(bucket, hash, gcra::now(record.scene.jiffies), limits.penalty);
    }
    1
}

/// Takes units from a source's cell: [`WITHIN`] its limit, [`OVER`] it, or [`UNTRACKED`].
///
/// A cell is mostly at its home, the way that its tag names: that is done on the spot.
#[inline(always)]
fn spend(
    bucket: *mut CellBucket,
    hash: u64,
    kind: u64,
    now: u64,
    limit: &Limit,
    units: u64,
    class: u32,
    record: &CpuStats,
) -> u64 {
    let tag = gcra::tag(hash, kind);
    let home = gcra::home(tag);
    let cell = read(bucket, home);
    if gcra::tagged(cell, tag) {
        let Some(next) = gcra::step(cell, now | tag, limit, units) else { return OVER };
        if exchange(place(bucket, home), cell, next) {
            return WITHIN;
        }
    } else if spent(record) && find(bucket, tag) == ABSENT {
        return UNTRACKED;
    }
    spend_anywhere(hash, kind, units, u64::from(class))
}

/// As [`spend`], for a cell that is elsewhere in the bucket, or nowhere, or was taken by another CPU. Lost to others
/// again and again, the packet passes. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn spend_anywhere(hash: u64, kind: u64, units: u64, class: u64) -> u64 {
    let Some(record) = scene::record() else { return WITHIN };
    let (control, limits) = (control(), limits(class as u32));
    let Some(bucket) = CELLS.get_ptr_mut(hash as u32 & control.cell_mask) else { return WITHIN };
    let limit = match kind {
        0 => &limits.limits[0],
        1 => &limits.limits[1],
        2 => &limits.limits[2],
        _ => &limits.violations,
    };
    let now = gcra::now(record.scene.jiffies);
    let tag = gcra::tag(hash, kind);
    let mut tries = 0;
    while tries < 2 {
        let mut way = find(bucket, tag);
        let new = way == ABSENT;
        if new {
            // A source that is new takes a cell from another. In a flood of ever new sources that is most of the work, so
            // there is a budget for it; over the budget a new source is not tracked.
            if !may_insert(record, control) {
                return UNTRACKED;
            }
            way = mine_or_stalest(bucket, tag, now);
        }
        let cell = read(bucket, way);
        let fresh = now | tag;
        let mine = if gcra::tagged(cell, tag) { cell } else { fresh };
        let Some(next) = gcra::step(mine, fresh, limit, units) else { return OVER };
        if exchange(place(bucket, way), cell, next) {
            if new && gcra::known_at_once(control.insert_budget, record.insert_left) {
                know(hash);
            }
            return WITHIN;
        }
        tries += 1;
    }
    WITHIN
}

#[inline(always)]
fn place(bucket: *mut CellBucket, way: u64) -> *mut u64 {
    // SAFETY: a way of the bucket, which is a map element.
    unsafe { (*bucket).cells.as_mut_ptr().add(way as usize & (CELL_WAYS - 1)) }
}

#[inline(always)]
fn read(bucket: *mut CellBucket, way: u64) -> u64 {
    // SAFETY: a way of the bucket, which is a map element; other CPUs write whole words.
    unsafe { core::ptr::read_volatile((*bucket).cells.as_ptr().add(way as usize & (CELL_WAYS - 1))) }
}

/// True when this jiffy's budget for new sources is spent.
#[inline(always)]
fn spent(record: &CpuStats) -> bool {
    record.insert_left == 0 && record.insert_tick == record.scene.jiffies
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
        if gcra::tagged(read(bucket, way as u64), tag) {
            return way as u64;
        }
        way += 1;
    }
    ABSENT
}

/// The way to take over: the tag's home when its limit is whole again, else the one that has been idle longest; or the one
/// that carries the tag by now, as another CPU may just have put it there. Without that look two CPUs that meet a source for
/// the first time at once would each give it a burst of its own.
#[inline(always)]
fn mine_or_stalest(bucket: *mut CellBucket, tag: u64, now: u64) -> u64 {
    let home = gcra::home(tag);
    let cell = read(bucket, home);
    if gcra::tagged(cell, tag) || gcra::idle(cell, now) != 0 {
        return home;
    }
    let mut stalest = home;
    let mut longest = 0;
    let mut way = 0;
    while way < CELL_WAYS as u64 {
        let cell = read(bucket, way);
        if gcra::tagged(cell, tag) {
            return way;
        }
        let idle = gcra::idle(cell, now);
        if idle > longest {
            longest = idle;
            stalest = way;
        }
        way += 1;
    }
    stalest
}

/// True while the source is barred.
#[inline(always)]
fn barred(bucket: *mut CellBucket, hash: u64, now: u64) -> bool {
    let way = find(bucket, gcra::tag(hash, Kind::Penalty as u64));
    way != ABSENT && gcra::ahead(read(bucket, way), now, FARTHEST) != 0
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
    unsafe { core::ptr::write_volatile(place(bucket, way), now.wrapping_add(penalty) | tag) };
}

#[inline(always)]
pub fn exchange(place: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: a word of a map element. Sequentially consistent, as weaker orders are miscompiled for BPF
    // (llvm/llvm-project#210280) and cost the same.
    let found = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(place, old, new).0
    };
    // LLVM would take this for the flag that comes beside the word, and make that a number first.
    maps::masked::<-1>(found) == old
}
