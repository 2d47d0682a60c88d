//! What the benchmarks measure against: an empty program, a bare drop, and floods from random sources. Test-run only.

use aya_ebpf::{
    bindings::{xdp_action::XDP_TX, xdp_md},
    helpers::generated::bpf_get_prandom_u32,
};

use crate::cookie;

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

/// Flags of a TCP header, in its fourth word as it lies in the packet.
const ANSWERED: u32 = 0x0012_0000u32.to_be();
const FLAGS: u32 = 0x00ff_0000u32.to_be();

/// Gives the packet a random source with right checksums and sends it out of the interface it is on: IPv4 of 40 bytes, or of 44 with
/// an option of TCP's segment size.
///
/// The kernel sends frames again as their receiver left them: one that was answered in place, which a SYN may be, is made what it was.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> u32 {
    // SAFETY: as above.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        if start + NEEDED + 2 > end {
            return XDP_TX;
        }
        let (ip, tcp) = ((start + IP) as *mut u32, (start + IP + 20) as *mut u32);
        let length = core::hint::black_box(end - start) as u32 - IP as u32;
        if *tcp.add(3) & FLAGS == ANSWERED {
            let mac = start as *mut u16;
            let mut i = 0;
            while i < 3 {
                let (a, b) = (*mac.add(i), *mac.add(i + 3));
                *mac.add(i) = b;
                *mac.add(i + 3) = a;
                i += 1;
            }
            *ip.add(4) = *ip.add(3);
            *tcp = (*tcp).rotate_left(16);
            *tcp.add(1) = 1u32.to_be();
            *tcp.add(2) = 0;
            *tcp.add(3) = ((length - 20) << 26 | 0x0002_ffff).to_be();
        }
        *ip = (0x4500_0000 | length).to_be();
        *ip.add(1) = 0x0001_4000u32.to_be();
        *ip.add(2) = (64u32 << 24 | 6 << 16).to_be();
        *tcp.add(4) = 0;
        if !random_source(ctx) {
            return XDP_TX;
        }
        let addresses = u64::from(*ip.add(3)) + u64::from(*ip.add(4));
        let header = addresses + u64::from(*ip) + u64::from(*ip.add(1)) + u64::from(*ip.add(2));
        *((start + IP + 10) as *mut u16) = cookie::fold(header);
        // The pseudo-header has the length and the protocol besides the addresses.
        let mut sum = addresses + u64::from((length - 20).to_be()) + u64::from(6u32.to_be());
        let mut i = 0;
        while i < 5 {
            sum += u64::from(*tcp.add(i));
            i += 1;
        }
        if start + IP + 44 <= end {
            sum += u64::from(*tcp.add(5));
        }
        *((start + IP + 20 + 16) as *mut u16) = cookie::fold(sum);
        XDP_TX
    }
}
