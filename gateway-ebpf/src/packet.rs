//! The packet as the parser's source of bytes.

use gateway_common::packet::{Source, Window};

/// No header can start beyond this (22 bytes of Ethernet and tags, 40 of IPv6, six extension headers of 2,048): the
/// verifier wants to see a bound on every variable offset.
const MAX_OFFSET: u32 = 0x7fff;

/// Start and end of what can be read, and the whole frame's length where that is the same.
pub struct Packet {
    start: usize,
    end: usize,
    whole: bool,
}

impl Packet {
    /// `whole`: the frame lies in one buffer.
    #[inline(always)]
    pub fn new(start: usize, end: usize, whole: bool) -> Self {
        Self { start, end, whole }
    }

    /// Bytes that can be read.
    #[inline(always)]
    pub fn readable(&self) -> u32 {
        (self.end - self.start) as u32
    }
}

impl Source for Packet {
    #[inline(always)]
    fn window<const N: usize>(&self, offset: u32) -> Option<Window<'_, N>> {
        let from = self.start + (offset & MAX_OFFSET) as usize;
        if from + N > self.end {
            return None;
        }
        // SAFETY: the N bytes from `from` end before the packet does; the verifier proves it again.
        Some(Window::new(unsafe { &*(from as *const [u8; N]) }))
    }

    #[inline(always)]
    fn length(&self) -> Option<u32> {
        if self.whole { Some(self.readable()) } else { None }
    }
}
