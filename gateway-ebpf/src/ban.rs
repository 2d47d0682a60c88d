//! Bans: marks first, then the tables.

use gateway_common::{
    address::{MAPPED_HIGH, MAPPED_LOW, Wide},
    bans::{HOST_WAYS, WIDE_WAYS, host_places, wide_places},
    control::{Control, LENGTHS},
    marks::{self, V6_BITS},
    reason::Reason,
    time::expiry_now,
};

use crate::{
    maps::{CONTROL, HOST_HITS, HOSTS, MARKS4, MARKS6, WIDE, WIDE_HITS},
    verdict::Finding,
};

/// The ban on an IPv4 source.
#[inline(always)]
pub fn check_v4(control: &Control, jiffies: u64, source: u32) -> Finding {
    let Some(word) = MARKS4.get(marks::v4_word(source)) else { return Finding::NONE };
    let field = word >> marks::v4_shift(source);
    if field & (marks::HOSTS | marks::PREFIX) == 0 {
        return Finding::NONE;
    }
    let now = expiry_now(jiffies, control.expiry_shift);
    if field & marks::HOSTS != 0 {
        let found = find_host(u64::from(source), u64::from(now));
        if found != 0 {
            return Finding::from_word(found);
        }
    }
    if field & marks::PREFIX != 0 {
        return Finding::from_word(find_prefix(u64::from(source), u64::from(now)));
    }
    Finding::NONE
}

/// The ban on a single IPv4 address, as a word of [`Finding`]. Exported, as are the others here, so that the verifier
/// checks it once and its many outcomes do not multiply with those of the rest.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_host(source: u64, now: u64) -> u64 {
    let (source, now) = (source as u32, now as u32);
    let Some(control) = CONTROL.get(0) else { return 0 };
    let places = host_places(&control.key, source, control.host_mask);
    let mut bucket = places.first;
    let mut found = HOSTS.get(bucket).and_then(|cell| cell.find(source, now));
    if found.is_none() {
        bucket = places.second;
        found = HOSTS.get(bucket).and_then(|cell| cell.find(source, now));
    }
    let Some((way, tag)) = found else { return 0 };
    if let Some(hits) = HOST_HITS.get_ptr_mut(bucket) {
        // SAFETY: the element has HOST_WAYS counters. Two CPUs may lose a count to each other.
        unsafe { (*hits)[way as usize & (HOST_WAYS - 1)] += 1 };
    }
    Finding::ban(Reason::BanHost, tag.reason(), bucket * HOST_WAYS as u32 + way).word()
}

/// The ban on a piece that an IPv4 address lies in: the address itself, its /24, /16 or /8.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_prefix(source: u64, now: u64) -> u64 {
    let mut bytes = 16u64;
    while bytes > 12 {
        let mask = u64::from(u32::MAX << (128 - bytes * 8));
        let found = find_wide(MAPPED_HIGH, MAPPED_LOW | (source & mask), bytes, now);
        if found != 0 {
            return found;
        }
        bytes -= 1;
    }
    0
}

/// The ban on one piece of `bytes` whole bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_wide(high: u64, low: u64, bytes: u64, now: u64) -> u64 {
    let (bytes, now) = (bytes as u32, now as u32);
    let Some(control) = CONTROL.get(0) else { return 0 };
    let places = wide_places(&control.key, high, low, bytes, control.wide_mask, V6_BITS - 1);
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

/// The ban on an IPv6 source.
#[inline(always)]
pub fn check_v6(control: &Control, jiffies: u64, source: Wide) -> Finding {
    let mut i = 0;
    while i < LENGTHS {
        if i as u32 >= control.length_count {
            break;
        }
        let bytes = u32::from(control.lengths[i]);
        let piece = source.masked(bytes * 8);
        let places = wide_places(&control.key, piece.high, piece.low, bytes, 0, V6_BITS - 1);
        let marked = match MARKS6.get(places.mark / 64) {
            Some(word) => word >> (places.mark % 64) & 1,
            None => 0,
        };
        if marked != 0 {
            let now = expiry_now(jiffies, control.expiry_shift);
            let found = find_wide(piece.high, piece.low, u64::from(bytes), u64::from(now));
            if found != 0 {
                return Finding::from_word(found);
            }
        }
        i += 1;
    }
    Finding::NONE
}
