//! What the benchmarks measure against: an empty program, a bare drop, and floods from random sources. Test-run only.

use aya_ebpf::{
    bindings::{xdp_action::XDP_TX, xdp_md},
    helpers::generated::bpf_get_prandom_u32,
};

/// Where an untagged IPv4 header starts.
const IP: usize = 14;
/// As far as the TCP checksum, from the start of the frame.
const NEEDED: usize = IP + 20 + 18;

/// Gives an untagged IPv4 packet a random source. False when it is too short.
#[inline(always)]
pub fn random_source(ctx: *mut xdp_md) -> bool {
    // SAFETY: the context is the kernel's; the bounds of the packet are checked before it is written.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        if start + NEEDED > end {
            return false;
        }
        // 11.0.0.0 to 126.255.255.255 or so: plain addresses of hosts.
        let random = bpf_get_prandom_u32();
        let source = (11 << 24) + (random % (115 << 24));
        *((start + IP + 12) as *mut u32) = source.to_be();
        true
    }
}

/// Gives the packet a random source with right checksums and sends it out of the interface it is on.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> u32 {
    // SAFETY: as above.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        if start + NEEDED > end {
            return XDP_TX;
        }
        let source = (start + IP + 12) as *mut u32;
        let old = *source;
        if !random_source(ctx) {
            return XDP_TX;
        }
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        if start + NEEDED > end {
            return XDP_TX;
        }
        let new = *((start + IP + 12) as *const u32);
        for at in [IP + 10, IP + 20 + 16] {
            let checksum = (start + at) as *mut u16;
            // RFC 1624, on words in the byte order they lie in.
            let mut sum =
                u32::from(!*checksum) + (!old & 0xffff) + (!old >> 16) + (new & 0xffff) + (new >> 16);
            sum = (sum & 0xffff) + (sum >> 16);
            sum = (sum & 0xffff) + (sum >> 16);
            *checksum = !(sum as u16);
        }
        XDP_TX
    }
}
