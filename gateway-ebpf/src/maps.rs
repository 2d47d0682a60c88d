//! Every map of the programs. The sizes are those of the default capacities; the loader sets others.

use aya_ebpf::{
    btf_maps::{Array, LpmTrie, RingBuf},
    macros::btf_map,
};
use gateway_common::{
    bans::{HOST_WAYS, HostBucket, WideBucket},
    control::Control,
    feeds::FeedBucket,
    flood::Sketch,
    gcra::{CLASSES, CellBucket, Fingerprints, LimitClass},
    marks::{GUARD_WORDS, HOST_WORDS, NEAR_WORDS, V4_WORDS, V6_WORDS},
    policy::{POLICY_CAPACITY, Policy},
    ports,
    stats::CpuStats,
};

/// The daemon reads and writes these through mmap.
const MMAPABLE: usize = 1 << 10;

/// What to do.
#[btf_map]
pub static CONTROL: Array<Control, 1, MMAPABLE> = Array::new();

/// Counters, by CPU.
#[btf_map]
pub static STATS: Array<CpuStats, 1, MMAPABLE> = Array::new();

/// Two bits for each IPv4 /24.
#[btf_map]
pub static MARKS4: Array<u64, { V4_WORDS as usize }, MMAPABLE> = Array::new();

/// One bit for each IPv4 /24 that a ban, the feed that counts or a policy prefix touches.
#[btf_map]
pub static NEAR4: Array<u64, { NEAR_WORDS as usize }, MMAPABLE> = Array::new();

/// What the whole host has taken of new connections: the theoretical arrival time of the next.
#[btf_map]
pub static GATE: Array<u64, 1, MMAPABLE> = Array::new();

/// Sketches of untracked sources, by CPU.
#[btf_map]
pub static SKETCH: Array<Sketch, 1, MMAPABLE> = Array::new();

/// A bit for each hashed piece of an IPv6 ban.
#[btf_map]
pub static MARKS6: Array<u64, { V6_WORDS as usize }, MMAPABLE> = Array::new();

/// Banned IPv4 hosts.
#[btf_map]
pub static HOSTS: Array<HostBucket, 1, MMAPABLE> = Array::new();

/// A bit for the hash of each banned IPv4 host.
#[btf_map]
pub static HOST_MARKS: Array<u64, { HOST_WORDS as usize }, MMAPABLE> = Array::new();

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
pub static GUARD: Array<u64, { GUARD_WORDS as usize }, MMAPABLE> = Array::new();

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

/// Whose cells those are.
#[btf_map]
pub static KNOWN: Array<Fingerprints, 1, MMAPABLE> = Array::new();

/// Limits by class.
#[btf_map]
pub static LIMITS: Array<LimitClass, { CLASSES as usize }, MMAPABLE> = Array::new();

/// Closed ports, ICMP types and protocols.
#[btf_map]
pub static PORTS: Array<u64, { ports::WORDS as usize }, MMAPABLE> = Array::new();

/// Two bits for each IPv4 /24, of both generations of the feed.
#[btf_map]
pub static FEED_MARKS4: Array<u64, { 2 * V4_WORDS as usize }, MMAPABLE> = Array::new();

/// A bit for each hashed piece of an IPv6 prefix, of both generations.
#[btf_map]
pub static FEED_MARKS6: Array<u64, { 2 * V6_WORDS as usize }, MMAPABLE> = Array::new();

/// IPv4 hosts of both generations of the feed.
#[btf_map]
pub static FEED_HOSTS: Array<FeedBucket, 2, MMAPABLE> = Array::new();

/// IPv6 hosts and prefixes of both generations.
#[btf_map]
pub static FEED_WIDE: Array<WideBucket, 2, MMAPABLE> = Array::new();

/// Dropped packets for a capture file ([`gateway_common::capture::CaptureRecord`]).
#[btf_map]
pub static CAPTURE: RingBuf<(), 1_048_576> = RingBuf::new();
