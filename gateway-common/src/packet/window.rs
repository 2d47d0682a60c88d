//! Bounds-checked reading of a packet, on the host and in the kernel.
#![allow(unsafe_code)]

/// Bytes that can be looked at through windows of a fixed size.
pub trait Source {
    /// `N` bytes from `offset`, or `None` when the packet ends before.
    fn window<const N: usize>(&self, offset: u32) -> Option<Window<'_, N>>;

    /// Length of the whole frame, where it is known: a frame spread over several buffers may be longer than what
    /// can be looked at.
    fn length(&self) -> Option<u32>;
}

/// `N` bytes of a packet. Reading at a position that does not fit into `N` is a compile-time mistake of this crate:
/// on the host it panics in tests, in the kernel the verifier refuses the program.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, const N: usize>(&'a [u8; N]);

impl<'a, const N: usize> Window<'a, N> {
    /// A view of these bytes.
    #[inline(always)]
    pub const fn new(bytes: &'a [u8; N]) -> Self {
        Self(bytes)
    }

    /// The byte at `at`.
    #[inline(always)]
    pub fn u8(self, at: usize) -> u8 {
        self.number::<1>(at)[0]
    }

    /// The big-endian 16 bits at `at`.
    #[inline(always)]
    pub fn u16(self, at: usize) -> u16 {
        u16::from_be_bytes(self.number(at))
    }

    /// The big-endian 32 bits at `at`.
    #[inline(always)]
    pub fn u32(self, at: usize) -> u32 {
        u32::from_be_bytes(self.number(at))
    }

    /// The two bytes at `at`, as the machine reads them: to be compared with [`u16::from_ne_bytes`] without turning them round.
    #[inline(always)]
    pub fn half(self, at: usize) -> u16 {
        u16::from_ne_bytes(self.number(at))
    }

    /// The big-endian 64 bits at `at`.
    #[inline(always)]
    pub fn u64(self, at: usize) -> u64 {
        u64::from_be_bytes(self.number(at))
    }

    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    fn number<const S: usize>(self, at: usize) -> [u8; S] {
        let mut out = [0; S];
        out.copy_from_slice(&self.0[at..at + S]);
        out
    }

    /// One load. A plain copy of bytes with alignment one becomes a load for each byte on BPF, where every
    /// architecture with a JIT takes unaligned loads from packets.
    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    fn number<const S: usize>(self, at: usize) -> [u8; S] {
        let from = self.0.as_ptr();
        let mut out = [0u8; S];
        // SAFETY: `at + S <= N` in every call of this crate (the verifier proves it again for each load); the BPF
        // machine has no alignment trap for packet loads.
        unsafe {
            let from = from.add(at);
            match S {
                1 => out[0] = *from,
                2 => *out.as_mut_ptr().cast::<u16>() = *from.cast::<u16>(),
                4 => *out.as_mut_ptr().cast::<u32>() = *from.cast::<u32>(),
                _ => *out.as_mut_ptr().cast::<u64>() = *from.cast::<u64>(),
            }
        }
        out
    }
}

impl Source for [u8] {
    #[inline]
    fn window<const N: usize>(&self, offset: u32) -> Option<Window<'_, N>> {
        self.get(offset as usize..)?.first_chunk::<N>().map(Window)
    }

    fn length(&self) -> Option<u32> {
        u32::try_from(self.len()).ok()
    }
}
