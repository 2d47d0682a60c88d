//! The filter in front of everything that asks about an IPv4 source: one bit for each /24. And a coarse one, a bit for each /16, of
//! what concerns prefixes: most sources that the first lets on lie beside a banned host, and need no more than its marks.
//!
//! A bit is set before what it stands for is written, and cleared only by [`Loaded::rebuild_near`], from what stands. The
//! caller is the one writer of it, of bans and of policies; a feed that is being filled comes in when it is complete.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use gateway_common::{
    marks::{PREFIX, V4_WORDS, fields_in_use, near_bit, near_word},
    packet::v4::BOGUS_RUNS,
};

use super::{load::Loaded, target::Target};

/// The first /24 that an IPv4 prefix touches, and how many.
pub(super) fn runs_v4(target: &Target) -> Option<(u32, u32)> {
    let count = || 1u32 << 24u32.saturating_sub(u32::from(target.length()));
    target.is_v4().then(|| (target.wide().low as u32 >> 8, count()))
}

impl Loaded {
    /// Sets bits in a word, and the bit of its /16.
    fn set_near(&self, word: usize, bits: u64) {
        set_bits(&self.near4[word], bits);
        set_bits(&self.coarse4[word / IN_COARSE], coarse(word));
    }

    /// Sets the bit of an address's /24.
    pub(super) fn near_host(&self, address: u32) {
        set_bits(&self.near4[near_word(address) as usize], 1 << near_bit(address));
    }

    /// Sets the bits of a prefix's /24s.
    pub(super) fn near_prefix(&self, target: &Target) {
        if let Some(run) = runs_v4(target) {
            set_run(run, |word, bits| self.set_near(word, bits));
        }
    }

    /// What always stands: every policy prefix, and the addresses that none may have as a source.
    fn standing(&self) -> impl Iterator<Item = &(u32, u32)> {
        self.policy4.iter().chain(&BOGUS_RUNS)
    }

    /// Sets the bits of every policy prefix.
    pub(super) fn mark_policy_near(&self) {
        for run in self.standing() {
            set_run(*run, |word, bits| self.set_near(word, bits));
        }
    }

    /// Sets the bits of a generation of the feed, before it counts.
    pub(super) fn near_feed(&self, generation: u32) {
        let feed = self.feed_words(generation);
        for (word, marks) in feed.as_chunks::<2>().0.iter().enumerate() {
            let bits = in_use(marks);
            if bits != 0 {
                self.set_near(word, bits);
            }
        }
    }

    /// Makes the filter anew from the marks of bans, the generation of the feed that counts, and the policy prefixes.
    pub(super) fn rebuild_near(&self) {
        let generation = self.control[0].feed_generation.load(Relaxed);
        let feed = self.feed_words(generation).as_chunks::<2>().0;
        let bans = self.marks4.as_chunks::<2>().0;
        let mut words: Vec<u64> = Vec::with_capacity(self.near4.len());
        let mut wide = vec![0u64; self.coarse4.len()];
        for (word, (bans, feed)) in bans.iter().zip(feed).enumerate() {
            let feed = in_use(feed);
            words.push(in_use(bans) | feed);
            if feed != 0 || bans.iter().any(|marks| marks.load(Relaxed) & EVERY_PREFIX != 0) {
                wide[word / IN_COARSE] |= coarse(word);
            }
        }
        for run in self.standing() {
            set_run(*run, |word, bits| {
                words[word] |= bits;
                wide[word / IN_COARSE] |= coarse(word);
            });
        }
        for (cell, word) in self.near4.iter().zip(words).chain(self.coarse4.iter().zip(wide)) {
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

/// Words of the filter that a word of the coarse one stands for: four for each bit.
const IN_COARSE: usize = 4 * 64;
/// The marks of prefixes in a word.
const EVERY_PREFIX: u64 = u64::MAX / 3 * PREFIX;

/// The bit of the coarse filter that stands for a word.
const fn coarse(word: usize) -> u64 {
    1 << (word / 4 % 64)
}

/// Sets bits; what is set already is not written again.
fn set_bits(cell: &AtomicU64, bits: u64) {
    let old = cell.load(Relaxed);
    if old & bits != bits {
        cell.store(old | bits, Release);
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
    use gateway_common::packet::v4::bogus_source;

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

    #[test]
    fn the_filter_holds_every_bogus_source_and_no_other_but_the_unspecified_one() {
        let mut bogus = vec![0u64; 1 << 18];
        BOGUS_RUNS.into_iter().for_each(|run| set_run(run, |word, bits| bogus[word] |= bits));
        for field in 0..1u32 << 24 {
            let (first, last) = (field << 8, field << 8 | 255);
            let marked = bogus[(field / 64) as usize] >> (field % 64) & 1 != 0;
            assert_eq!(bogus_source(last), marked, "{last:#x}");
            assert!(bogus_source(first) == marked || first == 0, "{first:#x}");
        }
    }
}
