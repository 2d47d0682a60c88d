//! The filter in front of everything that asks about an IPv4 source: one bit for each /24.
//!
//! A bit is set before what it stands for is written, and cleared only by [`Loaded::rebuild_near`], from what stands. The
//! caller is the one writer of it, of bans and of policies; a feed that is being filled comes in when it is complete.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use gateway_common::marks::{V4_WORDS, fields_in_use, near_bit, near_word};

use super::{load::Loaded, target::Target};

/// The first /24 that an IPv4 prefix touches, and how many.
pub(super) fn runs_v4(target: &Target) -> Option<(u32, u32)> {
    let count = || 1u32 << 24u32.saturating_sub(u32::from(target.length()));
    target.is_v4().then(|| (target.wide().low as u32 >> 8, count()))
}

impl Loaded {
    /// Sets the bit of an address's /24.
    pub(super) fn near_host(&self, address: u32) {
        let (cell, bit) = (&self.near4[near_word(address) as usize], 1 << near_bit(address));
        let old = cell.load(Relaxed);
        if old & bit == 0 {
            cell.store(old | bit, Release);
        }
    }

    /// Sets the bits of a prefix's /24s.
    pub(super) fn near_prefix(&self, target: &Target) {
        if let Some(run) = runs_v4(target) {
            set_run(run, |word, bits| {
                let cell = &self.near4[word];
                cell.store(cell.load(Relaxed) | bits, Release);
            });
        }
    }

    /// Sets the bits of every policy prefix.
    pub(super) fn mark_policy_near(&self) {
        for run in &self.policy4 {
            set_run(*run, |word, bits| {
                let cell = &self.near4[word];
                cell.store(cell.load(Relaxed) | bits, Release);
            });
        }
    }

    /// Sets the bits of a generation of the feed, before it counts.
    pub(super) fn near_feed(&self, generation: u32) {
        let feed = self.feed_words(generation);
        for (cell, marks) in self.near4.iter().zip(feed.as_chunks::<2>().0) {
            let bits = in_use(marks);
            if bits != 0 {
                cell.store(cell.load(Relaxed) | bits, Release);
            }
        }
    }

    /// Makes the filter anew from the marks of bans, the generation of the feed that counts, and the policy prefixes.
    pub(super) fn rebuild_near(&self) {
        let generation = self.control[0].feed_generation.load(Relaxed);
        let feed = self.feed_words(generation).as_chunks::<2>().0;
        let bans = self.marks4.as_chunks::<2>().0;
        let mut words: Vec<u64> =
            bans.iter().zip(feed).map(|(bans, feed)| in_use(bans) | in_use(feed)).collect();
        for run in &self.policy4 {
            set_run(*run, |word, bits| words[word] |= bits);
        }
        for (cell, word) in self.near4.iter().zip(words) {
            if cell.load(Relaxed) != word {
                cell.store(word, Relaxed);
            }
        }
    }

    fn feed_words(&self, generation: u32) -> &[AtomicU64] {
        let words = V4_WORDS as usize;
        &self.feed_marks4[words * (generation & 1) as usize..][..words]
    }
}

/// The bits of 64 /24s from two words of marks.
fn in_use([low, high]: &[AtomicU64; 2]) -> u64 {
    fields_in_use(low.load(Relaxed)) | fields_in_use(high.load(Relaxed)) << 32
}

/// Calls `set` with each word that a run of /24s touches, and its bits there.
fn set_run((first, count): (u32, u32), mut set: impl FnMut(usize, u64)) {
    let (mut field, end) = (first, first + count);
    while field < end {
        let (at, left) = (field % 64, end - field);
        let many = left.min(64 - at);
        set((field / 64) as usize, u64::MAX >> (64 - many) << at);
        field += many;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_their_fields_and_no_other() {
        for (text, first, count) in [
            ("10.0.0.0/8", 0x0a_0000u32, 65_536u32),
            ("192.0.2.0/24", 0xc0_0002, 1),
            ("192.0.2.7", 0xc0_0002, 1),
            ("198.51.100.0/22", 0xc6_3364, 4),
            ("0.0.0.0/0", 0, 1 << 24),
        ] {
            let run = runs_v4(&text.parse().unwrap()).unwrap();
            assert_eq!(run, (first, count), "{text}");
            let mut bits = 0;
            set_run(run, |word, set| {
                assert!((first / 64..=(first + count - 1) / 64).contains(&(word as u32)), "{text}");
                bits += set.count_ones();
            });
            assert_eq!(bits, count, "{text}");
        }
        assert_eq!(runs_v4(&"2001:db8::/32".parse().unwrap()), None);
    }
}
