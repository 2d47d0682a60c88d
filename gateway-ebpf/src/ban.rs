//! Bans: marks first, then the tables.

use gateway_common::{
    address::{MAPPED_HIGH, MAPPED_LOW, Wide, leading},
    bans::{HOST_WAYS, WIDE_WAYS, host_places, wide_places_of},
    control::{Control, LENGTHS},
    hash::hash_wide,
    marks::{self, V6_BITS},
    reason::Reason,
    time::expiry_now,
};

use crate::{
    maps::{self, HOST_HITS, HOSTS, WIDE, WIDE_HITS, control},
    verdict::Finding,
};

/// True when a ban, the feed or a policy prefix touches the /24 of an IPv4 source.
#[inline(always)]
pub fn near_v4(source: u32) -> bool {
    maps::near4(marks::near_word(source)) >> marks::near_bit(source) & 1 != 0
}

/// True when a banned prefix, the feed or a policy prefix touches the /16 of an IPv4 source.
#[inline(always)]
pub fn coarse_v4(source: u32) -> bool {
    maps::coarse4(marks::coarse_word(source)) >> marks::coarse_bit(source) & 1 != 0
}

/// The ban on a single IPv4 address. Most that have none end at the hashed mark, before the table, which is larger than the caches.
#[inline(always)]
pub fn host_v4(control: &Control, jiffies: u64, source: u32) -> Finding {
    let places = host_places(&control.key, source, control.host_mask);
    if maps::host_marks(places.mark / 64) >> (places.mark % 64) & 1 == 0 {
        return Finding::NONE;
    }
    let now = expiry_now(jiffies, control.expiry_shift);
    let mut bucket = places.first;
    let mut found = HOSTS.get(bucket).and_then(|cell| cell.find(source, now));
    if found.is_none() {
        bucket = places.second;
        found = HOSTS.get(bucket).and_then(|cell| cell.find(source, now));
    }
    let Some((way, tag)) = found else { return Finding::NONE };
    if let Some(hits) = HOST_HITS.get_ptr_mut(bucket) {
        // SAFETY: the element has HOST_WAYS counters. Two CPUs may lose a count to each other.
        unsafe { (*hits)[way as usize & (HOST_WAYS - 1)] += 1 };
    }
    Finding::ban(Reason::BanHost, tag.reason(), bucket * HOST_WAYS as u32 + way)
}

/// The ban on a prefix that an IPv4 source lies in.
#[inline(always)]
pub fn prefix_v4(control: &Control, jiffies: u64, source: u32) -> Finding {
    // Whether there is any ban on a prefix is known before it is asked which /24s one touches.
    if control.lengths4 == 0
        || maps::marks4(marks::v4_word(source)) >> marks::v4_shift(source) & marks::PREFIX == 0
    {
        return Finding::NONE;
    }
    Finding::from_word(find_prefix(control, source, expiry_now(jiffies, control.expiry_shift)))
}

/// The ban on a piece that an IPv4 address lies in: the address itself, its /24, /16 or /8, where there is any such ban.
/// The longest in use is looked up on the spot; it is mostly the only one.
#[inline(always)]
fn find_prefix(control: &Control, source: u32, now: u32) -> u64 {
    let used = control.lengths4 & 15;
    let mut bytes = 16u32;
    while bytes > 13 && used >> (bytes - 13) & 1 == 0 {
        bytes -= 1;
    }
    let low = piece_v4(source, bytes);
    let hash = hash_wide(&control.key, MAPPED_HIGH, low, bytes);
    let found = probe_wide(control, hash, MAPPED_HIGH, low, bytes, now);
    if found != 0 || used & ((1 << (bytes - 13)) - 1) == 0 {
        return found;
    }
    prefix_rest(u64::from(source), u64::from(bytes), u64::from(now))
}

/// The low half of the piece of `bytes` whole bytes (13 to 16) that an IPv4 address lies in.
#[inline(always)]
fn piece_v4(source: u32, bytes: u32) -> u64 {
    MAPPED_LOW | u64::from(source & (u32::MAX << ((128 - bytes * 8) & 31)))
}

/// As [`find_prefix`], for the pieces shorter than `bytes`. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn prefix_rest(source: u64, bytes: u64, now: u64) -> u64 {
    let control = control();
    let mut shorter = 15u32;
    while shorter > 12 {
        if u64::from(shorter) < bytes && control.lengths4 >> (shorter - 13) & 1 != 0 {
            let low = piece_v4(source as u32, shorter);
            let found = find_wide(MAPPED_HIGH, low, u64::from(shorter), now);
            if found != 0 {
                return found;
            }
        }
        shorter -= 1;
    }
    0
}

/// The ban on one piece of `bytes` whole bytes. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_wide(high: u64, low: u64, bytes: u64, now: u64) -> u64 {
    let (control, bytes) = (control(), bytes as u32);
    let hash = hash_wide(&control.key, high, low, bytes);
    probe_wide(control, hash, high, low, bytes, now as u32)
}

/// As [`find_wide`], on the spot; `hash`: of the piece.
#[inline(always)]
fn probe_wide(control: &Control, hash: u64, high: u64, low: u64, bytes: u32, now: u32) -> u64 {
    let places = wide_places_of(hash, control.wide_mask, 0);
    let mut bucket = places.first;
    let mut found = WIDE.get(bucket).and_then(|cell| cell.find(high, low, bytes, now));
    if found.is_none() {
        bucket = places.second;
        found = WIDE.get(bucket).and_then(|cell| cell.find(high, low, bytes, now));
    }
    let Some((way, tag)) = found else { return 0 };
    if let Some(hits) = WIDE_HITS.get_ptr_mut(bucket) {
        // SAFETY: the element has four counters. Two CPUs may lose a count to each other.
        unsafe { (*hits)[way as usize & 3] += 1 };
    }
    let reason = if bytes == 16 { Reason::BanHost } else { Reason::BanPrefix };
    Finding::ban(reason, tag.reason(), bucket * WIDE_WAYS as u32 + way).word()
}

/// Lengths that are looked at on the spot: more are seldom in use.
const FIRST_LENGTHS: usize = 3;

/// The ban on an IPv6 source. The first piece with a mark is looked up on the spot; it is mostly the ban.
#[inline(always)]
pub fn check_v6(control: &Control, jiffies: u64, source: Wide) -> Finding {
    let (mut first, mut marked, mut marked_hash) = (0, Wide { high: 0, low: 0 }, 0);
    let mut i = 0;
    while i < FIRST_LENGTHS {
        if i as u32 >= control.length_count {
            return Finding::NONE;
        }
        let bytes = u32::from(control.lengths[i]);
        let piece = leading(source, bytes);
        let hash = hash_wide(&control.key, piece.high, piece.low, bytes);
        i += 1;
        if is_marked(hash) {
            (first, marked, marked_hash) = (bytes, piece, hash);
            break;
        }
    }
    let now = expiry_now(jiffies, control.expiry_shift);
    let mut found = 0;
    if first != 0 {
        found = probe_wide(control, marked_hash, marked.high, marked.low, first, now);
    }
    if found == 0 && (i as u32) < control.length_count {
        found = check_rest(source.high, source.low, i as u64, u64::from(now));
    }
    Finding::from_word(found)
}

#[inline(always)]
fn is_marked(hash: u64) -> bool {
    let mark = wide_places_of(hash, 0, V6_BITS - 1).mark;
    maps::marks6(mark / 64) >> (mark % 64) & 1 != 0
}

/// The ban on an IPv6 source, from the length numbered `from` on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn check_rest(high: u64, low: u64, from: u64, now: u64) -> u64 {
    let control = control();
    let source = Wide { high, low };
    let mut i = 0;
    while i < LENGTHS {
        if i as u32 >= control.length_count {
            break;
        }
        let bytes = u32::from(control.lengths[i]);
        let piece = leading(source, bytes);
        if i as u64 >= from && is_marked(hash_wide(&control.key, piece.high, piece.low, bytes)) {
            let found = find_wide(piece.high, piece.low, u64::from(bytes), now);
            if found != 0 {
                return found;
            }
        }
        i += 1;
    }
    0
}
