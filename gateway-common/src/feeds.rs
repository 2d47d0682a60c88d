//! Feed sets: members without expiry, in two generations of which one counts.

use crate::hash::{HashKey, hash_v4};

/// Addresses of a bucket.
pub const FEED_WAYS: usize = 16;

/// Sixteen IPv4 hosts: one cache line. Zero is empty.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct FeedBucket {
    /// Addresses.
    pub addresses: [u32; FEED_WAYS],
}

const _: () = assert!(size_of::<FeedBucket>() == 64);

/// The two buckets of an address, in a generation of `mask + 1` buckets.
#[inline(always)]
pub const fn feed_places(key: &HashKey, address: u32, mask: u32) -> (u32, u32) {
    let hash = hash_v4(key, address);
    ((hash >> 8) as u32 & mask, (hash >> 36) as u32 & mask)
}

impl FeedBucket {
    /// True when the address is here.
    #[inline(always)]
    pub fn has(&self, address: u32) -> bool {
        let mut way = 0;
        while way < FEED_WAYS {
            if self.addresses[way] == address {
                return true;
            }
            way += 1;
        }
        false
    }
}
