//! Every map of the programs. The sizes are those of the default capacities; the loader sets others.
//!
//! A table of one size is a map of one element. The loader writes the address of that element into the programs: a word
//! of it costs a mask, an addition and a load, where a look-up costs a key on the stack, a test of bounds and a test for
//! null besides (decision 54). Tables whose size is configured, and those with a part for each CPU, are looked up.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::{Array, LpmTrie, RingBuf},
    macros::btf_map,
};
use gateway_common::{
    bans::{HOST_WAYS, HostBucket, WideBucket},
    control::Control,
    feeds::FeedBucket,
    gcra::{self, CLASSES, CellBucket, LimitClass},
    marks::{COARSE_WORDS, GUARD_WORDS, HOST_WORDS, NEAR_WORDS, V4_WORDS, V6_WORDS},
    policy::{POLICY_CAPACITY, Policy},
    ports,
    stats::CpuStats,
};

/// The daemon reads and writes these through mmap.
const MMAPABLE: usize = 1 << 10;

/// Words in one element.
type Table<const N: usize> = Array<[u64; N], 1, MMAPABLE>;

/// What to do.
#[btf_map]
static CONTROL: Array<Control, 1, MMAPABLE> = Array::new();

/// Counters, by CPU.
#[btf_map]
pub static STATS: Array<CpuStats, 1, MMAPABLE> = Array::new();

/// Two bits for each IPv4 /24.
#[btf_map]
static MARKS4: Table<{ V4_WORDS as usize }> = Array::new();

/// One bit for each IPv4 /24 that a ban, the feed that counts or a policy prefix touches.
#[btf_map]
static NEAR4: Table<{ NEAR_WORDS as usize }> = Array::new();

/// One bit for each IPv4 /16 that a banned prefix, the feed that counts or a policy prefix touches.
#[btf_map]
static COARSE4: Table<{ COARSE_WORDS as usize }> = Array::new();

/// What the whole host has taken of new connections: the theoretical arrival time of the next.
#[btf_map]
static GATE: Array<u64, 1, MMAPABLE> = Array::new();

/// A bit for each hashed piece of an IPv6 ban.
#[btf_map]
static MARKS6: Table<{ V6_WORDS as usize }> = Array::new();

/// Banned IPv4 hosts.
#[btf_map]
pub static HOSTS: Array<HostBucket, 1, MMAPABLE> = Array::new();

/// A bit for the hash of each banned IPv4 host.
#[btf_map]
static HOST_MARKS: Table<{ HOST_WORDS as usize }> = Array::new();

/// Packets dropped by each entry of `HOSTS`.
#[btf_map]
pub static HOST_HITS: Array<[u32; HOST_WAYS], 1, MMAPABLE> = Array::new();

/// Banned IPv6 hosts, and prefixes of both families.
#[btf_map]
pub static WIDE: Array<WideBucket, 1, MMAPABLE> = Array::new();

/// Packets dropped by each entry of `WIDE`; the fourth is unused.
#[btf_map]
pub static WIDE_HITS: Array<[u32; 4], 1, MMAPABLE> = Array::new();

/// Which policy prefixes may match.
#[btf_map]
static GUARD: Table<{ GUARD_WORDS as usize }> = Array::new();

/// Allowlist and limit classes by prefix.
#[btf_map]
pub static POLICY: LpmTrie<[u8; 16], Policy, { POLICY_CAPACITY as usize }> = LpmTrie::new();

/// Sampled drops ([`gateway_common::event::DropRecord`]).
#[btf_map]
pub static EVENTS: RingBuf<(), 262_144> = RingBuf::new();

/// Jiffies and the monotonic clock, as `gateway_clock` last saw them.
#[btf_map]
pub static CLOCK: Array<[u64; 2], 1, MMAPABLE> = Array::new();

/// Cells of the limits for each source.
#[btf_map]
pub static CELLS: Array<CellBucket, 1, MMAPABLE> = Array::new();

/// Who was seen with a cell of late.
#[btf_map]
static KNOWN: Array<[u8; gcra::KNOWN as usize], 1, MMAPABLE> = Array::new();

/// Limits by class.
#[btf_map]
static LIMITS: Array<[LimitClass; CLASSES as usize], 1, MMAPABLE> = Array::new();

/// Closed ports, ICMP types and protocols.
#[btf_map]
static PORTS: Table<{ ports::WORDS as usize }> = Array::new();

/// Two bits for each IPv4 /24, of both generations of the feed.
#[btf_map]
pub static FEED_MARKS4: Array<u64, { 2 * V4_WORDS as usize }, MMAPABLE> = Array::new();

/// A bit for each hashed piece of an IPv6 prefix, of both generations.
#[btf_map]
static FEED_MARKS6: Table<{ 2 * V6_WORDS as usize }> = Array::new();

/// IPv4 hosts of both generations of the feed.
#[btf_map]
pub static FEED_HOSTS: Array<FeedBucket, 2, MMAPABLE> = Array::new();

/// IPv6 hosts and prefixes of both generations.
#[btf_map]
pub static FEED_WIDE: Array<WideBucket, 2, MMAPABLE> = Array::new();

/// Dropped packets for a capture file ([`gateway_common::capture::CaptureRecord`]).
#[btf_map]
pub static CAPTURE: RingBuf<(), 1_048_576> = RingBuf::new();

/// Keeps the bits of a mask in an instruction that LLVM leaves as it is: a bound that it knows the verifier may not see. Never
/// without an instruction, as two lines of the source for one place in the program are refused.
#[inline(always)]
pub fn masked<const MASK: i32>(mut value: u64) -> u64 {
    // SAFETY: one instruction on one register.
    unsafe {
        asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem, nostack, preserves_flags));
    }
    value
}

/// Where the only element of a map is: the loader has the program's reference to the map become that address.
macro_rules! element {
    ($map:ident) => {{
        let place: *mut _;
        // SAFETY: a load of an address that nothing is known of.
        unsafe {
            asm!("{0} = {1} ll", out(reg) place, sym $map, options(pure, nomem, nostack, preserves_flags));
        }
        place
    }};
}

/// A word of a table.
macro_rules! word {
    ($table:ident, $words:expr, $index:expr) => {{
        const { assert!($words.is_power_of_two()) };
        let place: *mut u64 = element!($table);
        // SAFETY: the mask keeps the index inside; the verifier sees it too.
        unsafe { *place.add(masked::<{ $words as i32 - 1 }>(u64::from($index)) as usize) }
    }};
}

/// Settings.
#[inline(always)]
pub fn control() -> &'static Control {
    let place: *mut Control = element!(CONTROL);
    // SAFETY: the element lives as long as the program.
    unsafe { &*place }
}

/// What the whole host has taken of new connections.
#[inline(always)]
pub fn gate() -> *mut u64 {
    element!(GATE)
}

/// The limits of a class.
#[inline(always)]
pub fn limits(class: u32) -> &'static LimitClass {
    let place: *mut LimitClass = element!(LIMITS);
    // SAFETY: as above; the mask keeps the class inside.
    unsafe { &*place.add(masked::<{ CLASSES as i32 - 1 }>(u64::from(class)) as usize) }
}

/// Whom a place of the table of known sources names.
#[inline(always)]
pub fn known(index: u32) -> u8 {
    // SAFETY: inside; other CPUs write whole bytes.
    unsafe { core::ptr::read_volatile(known_at(index)) }
}

/// Writes down whom a place names from now on.
#[inline(always)]
pub fn know(index: u32, fingerprint: u8) {
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(known_at(index), fingerprint) }
}

#[inline(always)]
fn known_at(index: u32) -> *mut u8 {
    let place: *mut u8 = element!(KNOWN);
    // SAFETY: the mask keeps the index inside; the verifier sees it too.
    unsafe { place.add(masked::<{ gcra::KNOWN as i32 - 1 }>(u64::from(index)) as usize) }
}

/// A word of the port policy; beyond its end nothing is closed.
#[inline(always)]
pub fn ports(index: u32) -> u64 {
    let at = masked::<4095>(u64::from(index)) as usize;
    if at >= ports::WORDS as usize {
        return 0;
    }
    let place: *mut u64 = element!(PORTS);
    // SAFETY: as above.
    unsafe { *place.add(at) }
}

/// A word of the marks of IPv4 /24s.
#[inline(always)]
pub fn marks4(index: u32) -> u64 {
    word!(MARKS4, V4_WORDS, index)
}

/// A word of the filter of IPv4 /24s.
#[inline(always)]
pub fn near4(index: u32) -> u64 {
    word!(NEAR4, NEAR_WORDS, index)
}

/// A word of the filter of IPv4 /16s.
#[inline(always)]
pub fn coarse4(index: u32) -> u64 {
    word!(COARSE4, COARSE_WORDS, index)
}

/// A word of the marks of IPv6 pieces.
#[inline(always)]
pub fn marks6(index: u32) -> u64 {
    word!(MARKS6, V6_WORDS, index)
}

/// A word of the marks of IPv4 hosts.
#[inline(always)]
pub fn host_marks(index: u32) -> u64 {
    word!(HOST_MARKS, HOST_WORDS, index)
}

/// A word of the policy guard.
#[inline(always)]
pub fn guard(index: u32) -> u64 {
    word!(GUARD, GUARD_WORDS, index)
}

/// A word of the feed's marks of IPv6 pieces.
#[inline(always)]
pub fn feed_marks6(index: u32) -> u64 {
    word!(FEED_MARKS6, (2 * V6_WORDS), index)
}
