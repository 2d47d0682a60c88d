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
        let mut text = [0u8; 32];
        text[..16].copy_from_slice(&hex(self.id_prefix));
        text[16..].copy_from_slice(&hex(self.random()));
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// 16 hexadecimal digits.
pub(super) fn hex(value: u64) -> [u8; 16] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (byte, pair) in value.to_be_bytes().iter().zip(text.as_chunks_mut::<2>().0) {
        *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
    }
    text
}
