//! What belongs to one worker thread.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

/// A worker: its index in everything that is kept apart for each, and its random numbers.
#[derive(Debug)]
pub struct Worker {
    /// From 0.
    pub index: usize,
    state: AtomicU64,
    id_prefix: u64,
}

impl Worker {
    /// A worker whose numbers begin where the system's randomness says.
    pub fn new(index: usize) -> Self {
        let seed = || RandomState::new().build_hasher().finish();
        Self { index, state: AtomicU64::new(seed()), id_prefix: seed() }
    }

    /// A number that looks random (splitmix64): for choosing servers and naming requests, not for secrets.
    pub fn random(&self) -> u64 {
        let mut z = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A new request id: 32 hexadecimal digits.
    pub(super) fn request_id(&self) -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let value = u128::from(self.id_prefix) << 64 | u128::from(self.random());
        let mut text = [0u8; 32];
        for (i, digit) in text.iter_mut().enumerate() {
            *digit = HEX[(value >> (124 - 4 * i)) as usize & 15];
        }
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
    }
}
