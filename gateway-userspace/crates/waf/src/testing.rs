//! What the crate's tests share.

/// A small deterministic source of randomness (xorshift64*), so that a failing run can be repeated.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to `bound - 1`; `bound` is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    /// A value of up to `most` bytes made of pieces of an alphabet of texts.
    pub(crate) fn value(&mut self, pieces: &[&[u8]], most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        let mut value = Vec::new();
        while value.len() < length {
            value.extend_from_slice(pieces[self.below(pieces.len())]);
        }
        value
    }
}
