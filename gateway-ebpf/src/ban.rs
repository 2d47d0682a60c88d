//! Bans: marks first, then the tables.

use gateway_common::{
    address::{MAPPED_HIGH, MAPPED_LOW, Wide},
    bans::{HOST_WAYS, WIDE_WAYS, host_places, wide_places},
    control::LENGTHS,
    marks::{self, V6_BITS},
    reason::Reason,
    time::expiry_now,
};

use crate::{
    maps::{HOST_HITS, HOSTS, MARKS4, MARKS6, WIDE, WIDE_HITS},
    scene::Scene,
    verdict::Finding,
};

/// The ban on an IPv4 source, if there is one.
#[inline(always)]
pub fn check_v4(scene: &Scene, source: u32) -> Option<Finding> {
    let word = MARKS4.get(marks::v4_word(source))?;
    let field = word >> marks::v4_shift(source);
    if field & (marks::HOSTS | marks::PREFIX) == 0 {
        return None;
    }
    let now = expiry_now(scene.jiffies, scene.control.expiry_shift);
    if field & marks::HOSTS != 0
        && let Some(finding) = host(scene, source, now)
    {
        return Some(finding);
    }
    if field & marks::PREFIX != 0 {
        return prefix_v4(scene, source, now);
    }
    None
}

#[inline(always)]
fn host(scene: &Scene, source: u32, now: u32) -> Option<Finding> {
    let places = host_places(&scene.control.key, source, scene.control.host_mask);
    let mut bucket = places.first;
    let mut found = HOSTS.get(bucket)?.find(source, now);
    if found.is_none() {
        bucket = places.second;
        found = HOSTS.get(bucket)?.find(source, now);
    }
    let (way, tag) = found?;
    if let Some(hits) = HOST_HITS.get_ptr_mut(bucket) {
        // SAFETY: the element has HOST_WAYS counters. Two CPUs may lose a count to each other.
        unsafe { (*hits)[way as usize & (HOST_WAYS - 1)] += 1 };
    }
    Some(Finding {
        reason: Reason::BanHost,
        ban_reason: tag.reason(),
        matched: bucket * HOST_WAYS as u32 + way,
    })
}

#[inline(always)]
fn prefix_v4(scene: &Scene, source: u32, now: u32) -> Option<Finding> {
    let mut bytes = 16u32;
    while bytes > 12 {
        let mask = u32::MAX << (128 - bytes * 8);
        let low = MAPPED_LOW | (source & mask) as u64;
        if let Some(finding) = wide(scene, MAPPED_HIGH, low, bytes, now, false) {
            return Some(finding);
        }
        bytes -= 1;
    }
    None
}

/// The ban on an IPv6 source, if there is one.
#[inline(always)]
pub fn check_v6(scene: &Scene, source: Wide) -> Option<Finding> {
    let now = expiry_now(scene.jiffies, scene.control.expiry_shift);
    let mut i = 0;
    while i < LENGTHS {
        if i as u32 >= scene.control.length_count {
            break;
        }
        let bytes = scene.control.lengths[i] as u32 & 31;
        let piece = source.masked(bytes * 8);
        if let Some(finding) = wide(scene, piece.high, piece.low, bytes, now, true) {
            return Some(finding);
        }
        i += 1;
    }
    None
}

#[inline(always)]
fn wide(scene: &Scene, high: u64, low: u64, bytes: u32, now: u32, marked: bool) -> Option<Finding> {
    let places = wide_places(&scene.control.key, high, low, bytes, scene.control.wide_mask, V6_BITS - 1);
    if marked && MARKS6.get(places.mark / 64)? >> (places.mark % 64) & 1 == 0 {
        return None;
    }
    let mut bucket = places.first;
    let mut found = WIDE.get(bucket)?.find(high, low, bytes, now);
    if found.is_none() {
        bucket = places.second;
        found = WIDE.get(bucket)?.find(high, low, bytes, now);
    }
    let (way, tag) = found?;
    if let Some(hits) = WIDE_HITS.get_ptr_mut(bucket) {
        // SAFETY: the element has four counters. Two CPUs may lose a count to each other.
        unsafe { (*hits)[way as usize & 3] += 1 };
    }
    let reason = if bytes == 16 { Reason::BanHost } else { Reason::BanPrefix };
    Some(Finding { reason, ban_reason: tag.reason(), matched: bucket * WIDE_WAYS as u32 + way })
}
