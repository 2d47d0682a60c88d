//! The packet as the parser's source of bytes.

use aya_ebpf::bindings::xdp_md;
use gateway_common::packet::{Source, Window};

/// No header can start beyond this (22 bytes of Ethernet and tags, 40 of IPv6, six extension headers of 2,048): the
/// verifier wants to see a bound on every variable offset.
const MAX_OFFSET: u32 = 0x7fff;

/// Start and end of what can be read, and the whole frame's length where that is known.
pub struct Packet {
    start: usize,
    end: usize,
    length: Option<u32>,
}

impl Packet {
    /// The packet of a context, which must not be null.
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        // SAFETY: the context is the kernel's.
        let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
        Self { start, end, length: None }
    }

    /// The packet of a context whose frame lies in one buffer.
    #[inline(always)]
    pub fn whole(ctx: *mut xdp_md) -> Self {
        let packet = Self::new(ctx);
        Self { length: Some(packet.readable()), ..packet }
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
        self.length
    }
}
