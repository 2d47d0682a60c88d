//! Feed sets: is the source a member of the generation that counts?

use gateway_common::{
    address::{Wide, leading},
    bans::wide_places,
    control::{Control, LENGTHS},
    feeds::feed_places,
    marks::{self, V4_WORDS, V6_BITS, V6_WORDS},
};

use crate::maps::{self, FEED_HOSTS, FEED_MARKS4, FEED_WIDE, control};

/// True when an IPv4 source is in the feed.
#[inline(always)]
pub fn has_v4(control: &Control, source: u32) -> bool {
    let generation = control.feed_generation & 1;
    let Some(word) = FEED_MARKS4.get(generation * V4_WORDS + marks::v4_word(source)) else { return false };
    let field = word >> marks::v4_shift(source);
    // A feed prefix marks whole /24s, and has no time to look up.
    if field & marks::PREFIX != 0 {
        return true;
    }
    field & marks::HOSTS != 0 && feed_host(u64::from(source), u64::from(generation)) != 0
}

/// One if the host is in the table of the generation. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn feed_host(source: u64, generation: u64) -> u64 {
    let (source, generation) = (source as u32, generation as u32 & 1);
    let control = control();
    let mask = control.feed_host_mask;
    let base = generation * (mask + 1);
    let (first, second) = feed_places(&control.key, source, mask);
    if FEED_HOSTS.get(base + first).is_some_and(|cell| cell.has(source)) {
        return 1;
    }
    u64::from(FEED_HOSTS.get(base + second).is_some_and(|cell| cell.has(source)))
}

/// True when an IPv6 source is in the feed.
#[inline(always)]
pub fn has_v6(control: &Control, source: Wide) -> bool {
    let generation = control.feed_generation & 1;
    let mut i = 0;
    while i < LENGTHS {
        if i as u32 >= control.feed_length_count[generation as usize] {
            break;
        }
        let bytes = u32::from(control.feed_lengths[generation as usize][i]);
        let piece = leading(source, bytes);
        let mark = wide_places(&control.key, piece.high, piece.low, bytes, 0, V6_BITS - 1).mark;
        let marked = maps::feed_marks6(generation * V6_WORDS + mark / 64) >> (mark % 64) & 1;
        if marked != 0 && feed_wide(piece.high, piece.low, u64::from(bytes), u64::from(generation)) != 0 {
            return true;
        }
        i += 1;
    }
    false
}

/// One if the piece is in the table of the generation.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn feed_wide(high: u64, low: u64, bytes: u64, generation: u64) -> u64 {
    let (bytes, generation) = (bytes as u32, generation as u32 & 1);
    let control = control();
    let mask = control.feed_wide_mask;
    let base = generation * (mask + 1);
    let places = wide_places(&control.key, high, low, bytes, mask, 0);
    if FEED_WIDE.get(base + places.first).is_some_and(|cell| cell.find(high, low, bytes, 0).is_some()) {
        return 1;
    }
    u64::from(
        FEED_WIDE.get(base + places.second).is_some_and(|cell| cell.find(high, low, bytes, 0).is_some()),
    )
}
