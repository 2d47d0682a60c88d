//! SYN cookies (RFC 4987 section 3.6): the answer to a SYN is made here, out of a cookie of the host's own TCP, which
//! later takes the client's acknowledgement as if it had answered itself.
//!
//! The kernel hands a cookie out only when the listener's queue is full (or net.ipv4.tcp_syncookies is 2). Before that
//! its own answer is the better one, with window scaling and selective acknowledgements.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{bpf_sock_tuple, tcphdr, xdp_md},
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie, bpf_xdp_adjust_tail},
};

/// The packet has become the answer.
pub const SENT: u64 = 1;
/// The listener has room, or the connection is there: the packet may go to it.
pub const NOT_NEEDED: u64 = 2;
/// No listener, or no cookies here.
pub const NONE: u64 = 0;

/// Words of a TCP header with the most options.
const MOST_WORDS: usize = 15;
/// Bytes of the answer's TCP header: with the option of the segment size.
const ANSWER: usize = 24;
/// State of a listening socket.
const LISTEN: u32 = 10;
/// The network namespace of the interface.
const CURRENT_NAMESPACE: u64 = u64::MAX;
/// The listener's queue is not full.
const ENOENT: i64 = -2;
/// IP headers start at most here: behind Ethernet and two tags.
const OFFSET_MASK: u64 = 31;

/// Turns a SYN whose IP header is at `offset`, with the TCP header directly behind, into an answer with a cookie.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_syn(ctx: *mut xdp_md, offset: u64, v6: u64) -> u64 {
    if ctx.is_null() {
        return NONE;
    }
    let offset = (offset & OFFSET_MASK) as usize;
    if v6 != 0 { answer::<40>(ctx, offset) } else { answer::<20>(ctx, offset) }
}

/// `IP`: bytes of the IP header, which tell the family.
#[inline(always)]
fn answer<const IP: usize>(ctx: *mut xdp_md, offset: usize) -> u64 {
    let mut tcp = MaybeUninit::<[u32; MOST_WORDS]>::uninit();
    // Source and destination as in the IP header, then the ports.
    let mut tuple = MaybeUninit::<[u32; 9]>::uninit();
    let words = if IP == 40 { 8 } else { 2 };
    // SAFETY: the packet is read and written only where it was checked to reach; the helpers get what their manual asks for,
    // and the socket that one returns is given back.
    unsafe {
        let (tcp, tuple) = (tcp.as_mut_ptr().cast::<u32>(), tuple.as_mut_ptr().cast::<u32>());
        // Word by word: a run of zeros would become a call of memset.
        let mut i = 0;
        while i < MOST_WORDS {
            tcp.add(i).write_volatile(0);
            i += 1;
        }
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        let ip = start + offset;
        if ip + IP + 20 > end {
            return NONE;
        }
        let addresses = (ip + IP - words * 4) as *const u32;
        let mut i = 0;
        while i < words {
            tuple.add(i).write_volatile(*addresses.add(i));
            i += 1;
        }
        tuple.add(words).write_volatile(*((ip + IP) as *const u32));
        let length = usize::from(*((ip + IP + 12) as *const u8) >> 4);
        let mut i = 0;
        while i < MOST_WORDS {
            if i >= length {
                break;
            }
            let from = ip + IP + i * 4;
            // As `from >= end` the verifier would not see that the word is there; LLVM would write it so.
            if core::hint::black_box(from + 4) > end {
                return NONE;
            }
            tcp.add(i).write_volatile(*(from as *const u32));
            i += 1;
        }
        let size = core::hint::black_box(length as u32 & 15) * 4;
        if size < 20 {
            return NONE;
        }
        let tuple_size = (words * 4 + 4) as u32;
        let socket =
            bpf_skc_lookup_tcp(ctx.cast(), tuple.cast::<bpf_sock_tuple>(), tuple_size, CURRENT_NAMESPACE, 0);
        if socket.is_null() {
            return NONE;
        }
        // Not a listener: the connection that was here a moment ago and waits for its end (RFC 9293 section 3.6.1), or one whose
        // answer was lost. That is the host's own to answer, as it is with all other segments of connections.
        let mut cookie = ENOENT;
        if (*socket).state == LISTEN {
            cookie =
                bpf_tcp_gen_syncookie(socket.cast(), ip as *mut _, IP as u32, tcp.cast::<tcphdr>(), size);
        }
        bpf_sk_release(socket.cast());
        if cookie < 0 {
            return if cookie == ENOENT { NOT_NEEDED } else { NONE };
        }
        // Pointers may be subtracted in 64 bits only.
        let length = core::hint::black_box(end - start) as i32;
        if bpf_xdp_adjust_tail(ctx, (offset + IP + ANSWER) as i32 - length) != 0 {
            return NONE;
        }
        let sequence = u32::from_be(tcp.add(1).read_volatile());
        write::<IP>(ctx, offset, tuple, sequence, cookie as u64)
    }
}

/// Writes the answer over the packet. `cookie`: the cookie below, the segment size above it.
#[inline(always)]
unsafe fn write<const IP: usize>(
    ctx: *mut xdp_md,
    offset: usize,
    tuple: *const u32,
    sequence: u32,
    cookie: u64,
) -> u64 {
    let half = if IP == 40 { 4 } else { 1 };
    // SAFETY: the bounds of the packet are checked before it is written.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        let ip = start + offset;
        if ip + IP + ANSWER > end {
            return NONE;
        }
        // The verifier does not see what this check follows from; LLVM does.
        if core::hint::black_box(start + 14) > end {
            return NONE;
        }
        let from = start as *mut u16;
        let mut i = 0;
        while i < 3 {
            let (a, b) = (*from.add(i), *from.add(i + 3));
            *from.add(i) = b;
            *from.add(i + 3) = a;
            i += 1;
        }
        // Sums of 32-bit words; folding makes them sums of 16-bit words (RFC 1071).
        let mut sum = 0u64;
        let addresses = (ip + IP - half * 8) as *mut u32;
        let mut i = 0;
        while i < half {
            let (source, destination) = (tuple.add(half + i).read_volatile(), tuple.add(i).read_volatile());
            *addresses.add(i) = source;
            *addresses.add(half + i) = destination;
            sum += u64::from(source) + u64::from(destination);
            i += 1;
        }
        if IP == 40 {
            *(ip as *mut u32) = 0x6000_0000u32.to_be();
            *((ip + 4) as *mut u32) = ((ANSWER as u32) << 16 | 6 << 8 | 64).to_be();
        } else {
            let words = [
                (0x4500_0000 | (IP + ANSWER) as u32).to_be(),
                0x4000u32.to_be(),
                (64u32 << 24 | 6 << 16).to_be(),
            ];
            let header = u64::from(words[0]) + u64::from(words[1]) + u64::from(words[2]) + sum;
            *(ip as *mut u32) = words[0];
            *((ip + 4) as *mut u32) = words[1];
            *((ip + 8) as *mut u32) = words[2];
            *((ip + 10) as *mut u16) = fold(header);
        }
        let ports = tuple.add(2 * half).read_volatile().rotate_left(16);
        let words = [
            ports,
            (cookie as u32).to_be(),
            sequence.wrapping_add(1).to_be(),
            // Six words of header, SYN and ACK, the largest window that is not scaled.
            0x6012_ffffu32.to_be(),
            0,
            (0x0204_0000 | (cookie >> 32) as u32 & 0xffff).to_be(),
        ];
        // The pseudo-header has the length and the protocol besides the addresses.
        sum += u64::from((ANSWER as u32).to_be()) + u64::from(6u32.to_be());
        let to = (ip + IP) as *mut u32;
        let mut i = 0;
        while i < 6 {
            sum += u64::from(words[i]);
            *to.add(i) = words[i];
            i += 1;
        }
        *((ip + IP + 16) as *mut u16) = fold(sum);
    }
    SENT
}

/// The checksum of a sum of 32-bit words.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
