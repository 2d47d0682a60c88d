//! Records of the ban tables.
//!
//! Two tables of 64-byte buckets, so that a look-up touches one cache line, or two on a miss: single IPv4 hosts
//! ([`HostBucket`], eight entries), and everything else ([`WideBucket`], three entries): IPv6 hosts and prefixes of
//! both families. A key has two possible buckets (cuckoo hashing). The daemon is the only writer and writes through
//! mmap; the kernel only reads, without locks. The orders of writing are those of [`HostBucket`] and [`WideBucket`].
//!
//! A prefix is held as pieces whose length is a multiple of eight bits: at most 128 of them. So a look-up probes a
//! few fixed lengths and never searches a tree.

use crate::{
    hash::{HashKey, hash_v4, hash_wide},
    marks::HOST_BITS,
    time::{EXPIRY_BITS, FARTHEST, NEVER},
};

/// Entries in a [`HostBucket`].
pub const HOST_WAYS: usize = 8;
/// Entries in a [`WideBucket`].
pub const WIDE_WAYS: usize = 3;

/// Expiry and reason of a ban in one word: 28 bits of expiry, 4 of reason. Zero means an empty place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

impl Tag {
    /// An empty place.
    pub const EMPTY: Self = Self(0);

    /// A tag. An expiry of zero becomes one, so that no tag is empty.
    #[inline(always)]
    pub const fn new(expiry: u32, reason: u8) -> Self {
        let expiry = if expiry & NEVER == 0 { 1 } else { expiry & NEVER };
        Self(expiry | (reason as u32) << EXPIRY_BITS)
    }

    /// The expiry, in expiry units.
    #[inline(always)]
    pub const fn expiry(self) -> u32 {
        self.0 & NEVER
    }

    /// The code of the reason.
    #[inline(always)]
    pub const fn reason(self) -> u8 {
        (self.0 >> EXPIRY_BITS) as u8
    }

    /// True while the ban holds: its expiry lies in the half circle after `now`. An empty place never holds.
    #[inline(always)]
    pub const fn holds(self, now: u32) -> bool {
        let left = self.expiry().wrapping_sub(now) & NEVER;
        self.0 != 0 && ((left != 0 && left <= FARTHEST) || self.expiry() == NEVER)
    }
}

/// An IPv4 host entry: the address in the low half, its [`Tag`] in the high half.
#[inline(always)]
pub const fn host_entry(address: u32, tag: Tag) -> u64 {
    (tag.0 as u64) << 32 | address as u64
}

/// The address of a host entry.
#[inline(always)]
pub const fn entry_address(entry: u64) -> u32 {
    entry as u32
}

/// The tag of a host entry.
#[inline(always)]
pub const fn entry_tag(entry: u64) -> Tag {
    Tag((entry >> 32) as u32)
}

/// Eight IPv4 hosts. An entry is one word, so it appears and disappears at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct HostBucket {
    /// Entries; zero is empty.
    pub entries: [u64; HOST_WAYS],
}

/// Three keys of 128 bits with a prefix length.
///
/// The writer empties the tag, writes key and length, then writes the tag. A reader that compares a key while it is
/// replaced can at worst apply a ban written in that moment to a key half old and half new, which is no one's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct WideBucket {
    /// First halves of the keys.
    pub high: [u64; WIDE_WAYS],
    /// Second halves of the keys.
    pub low: [u64; WIDE_WAYS],
    /// Tags; zero is empty.
    pub tags: [u32; WIDE_WAYS],
    /// [`length_code`] of each key, one byte each.
    pub lengths: u32,
}

const _: () = assert!(size_of::<HostBucket>() == 64 && align_of::<HostBucket>() == 64);
const _: () = assert!(size_of::<WideBucket>() == 64 && align_of::<WideBucket>() == 64);

/// How a prefix length is held: the piece's length in whole bytes less one in the upper bits, and how many bits
/// shorter the ban's own prefix is in the lower three. So the ban can be put together again from its pieces.
pub const fn length_code(piece: u32, ban: u32) -> u8 {
    (((piece / 8 - 1) << 3) | (piece - ban)) as u8
}

/// The piece's length behind a code, in bits: 8 to 128.
pub const fn piece_length(code: u8) -> u32 {
    ((code >> 3) as u32 + 1) * 8
}

/// The ban's own length behind a code, in bits: 1 to 128.
pub const fn ban_length(code: u8) -> u32 {
    piece_length(code) - (code & 7) as u32
}

/// Where a key may be: its two buckets and its bit in the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The bucket looked at first.
    pub first: u32,
    /// The bucket looked at second.
    pub second: u32,
    /// Bit in the hashed marks.
    pub mark: u32,
}

/// Places of an IPv4 host in a table of `mask + 1` buckets. Marks take the upper 24 bits of the hash.
#[inline(always)]
pub const fn host_places(key: &HashKey, address: u32, mask: u32) -> Places {
    let hash = hash_v4(key, address);
    Places {
        first: hash as u32 & mask,
        second: (hash >> 32) as u32 & mask,
        mark: (hash >> 40) as u32 & (HOST_BITS - 1),
    }
}

/// Places of a piece: a masked address and its length in bytes.
#[inline(always)]
pub const fn wide_places(
    key: &HashKey,
    high: u64,
    low: u64,
    bytes: u32,
    mask: u32,
    marks_mask: u32,
) -> Places {
    wide_places_of(hash_wide(key, high, low, bytes), mask, marks_mask)
}

/// Places of a piece by its hash. Marks take the upper 24 bits of it, the two buckets 20 bits each.
#[inline(always)]
pub const fn wide_places_of(hash: u64, mask: u32, marks_mask: u32) -> Places {
    Places {
        first: hash as u32 & mask,
        second: (hash >> 20) as u32 & mask,
        mark: (hash >> 40) as u32 & marks_mask,
    }
}

impl HostBucket {
    /// The place and tag of a ban on `address` that holds now.
    #[inline(always)]
    pub fn find(&self, address: u32, now: u32) -> Option<(u32, Tag)> {
        let mut way = 0;
        while way < HOST_WAYS {
            let entry = self.entries[way];
            if entry_address(entry) == address && entry_tag(entry).holds(now) {
                return Some((way as u32, entry_tag(entry)));
            }
            way += 1;
        }
        None
    }
}

impl WideBucket {
    /// The place and tag of a ban on this piece that holds now.
    #[inline(always)]
    pub fn find(&self, high: u64, low: u64, bytes: u32, now: u32) -> Option<(u32, Tag)> {
        let mut way = 0;
        while way < WIDE_WAYS {
            let tag = Tag(self.tags[way]);
            let length = (self.lengths >> (way * 8 + 3)) & 31;
            if self.high[way] == high && self.low[way] == low && length + 1 == bytes && tag.holds(now) {
                return Some((way as u32, tag));
            }
            way += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_hold_until_their_time() {
        for (expiry, now, holds) in [
            (10, 9, true),
            (10, 10, false),
            (10, 11, false),
            (0, 0, true),
            (0, 1, false),
            (NEVER, 0, true),
            (NEVER, NEVER, true),
            (5, NEVER - 5, true),
            (NEVER - 5, 5, false),
            (FARTHEST + 7, 7, true),
            (FARTHEST + 8, 7, false),
        ] {
            assert_eq!(Tag::new(expiry, 5).holds(now), holds, "{expiry} at {now}");
        }
        assert!(!Tag::EMPTY.holds(0));
        assert_eq!(Tag::new(77, 15).reason(), 15);
        assert_eq!(Tag::new(77, 15).expiry(), 77);
    }

    #[test]
    fn length_codes_go_round() {
        for ban in 1..=128u32 {
            let piece = ban.div_ceil(8) * 8;
            let code = length_code(piece, ban);
            assert_eq!((piece_length(code), ban_length(code)), (piece, ban));
        }
    }

    #[test]
    fn buckets_find_their_keys() {
        let mut hosts = HostBucket { entries: [0; HOST_WAYS] };
        for way in 0..HOST_WAYS {
            hosts.entries[way] = host_entry(100 + way as u32, Tag::new(50, 1));
        }
        for way in 0..HOST_WAYS as u32 {
            assert_eq!(hosts.find(100 + way, 49), Some((way, Tag::new(50, 1))));
            assert_eq!(hosts.find(100 + way, 50), None);
        }
        assert_eq!(hosts.find(0, 0), None);
        assert_eq!(HostBucket { entries: [0; HOST_WAYS] }.find(0, 0), None);

        let mut wide =
            WideBucket { high: [0; WIDE_WAYS], low: [0; WIDE_WAYS], tags: [0; WIDE_WAYS], lengths: 0 };
        assert_eq!(wide.find(0, 0, 1, 0), None);
        for (way, length) in [(0usize, 128u32), (1, 64), (2, 8)] {
            wide.high[way] = 7;
            wide.tags[way] = Tag::new(9, way as u8).0;
            wide.lengths |= (length_code(length, length) as u32) << (way * 8);
        }
        assert_eq!(wide.find(7, 0, 16, 1), Some((0, Tag::new(9, 0))));
        assert_eq!(wide.find(7, 0, 8, 1), Some((1, Tag::new(9, 1))));
        assert_eq!(wide.find(7, 0, 1, 1), Some((2, Tag::new(9, 2))));
        assert_eq!(wide.find(7, 0, 2, 1), None);
        assert_eq!(wide.find(7, 1, 8, 1), None);
    }
}
