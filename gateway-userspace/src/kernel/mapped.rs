//! Array maps as shared memory.
#![allow(unsafe_code)]

use std::{
    io,
    ops::Deref,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use gateway_common::{
    bans::{HOST_WAYS, HostBucket, WIDE_WAYS, WideBucket},
    control::{Control, LENGTHS},
    feeds::{FEED_WAYS, FeedBucket},
    gcra::LimitClass,
    stats::CpuStats,
};

/// A type made of atomics only, without padding, so that memory which the kernel reads and writes may be seen as it.
///
/// # Safety
/// Every bit pattern must be valid, and shared references must stay sound while others write.
pub unsafe trait Cell {}

/// [`HostBucket`] as shared memory.
#[repr(C, align(64))]
pub struct HostCell {
    /// Entries.
    pub entries: [AtomicU64; HOST_WAYS],
}

/// [`WideBucket`] as shared memory.
#[repr(C, align(64))]
pub struct WideCell {
    /// First halves.
    pub high: [AtomicU64; WIDE_WAYS],
    /// Second halves.
    pub low: [AtomicU64; WIDE_WAYS],
    /// Tags.
    pub tags: [AtomicU32; WIDE_WAYS],
    /// Length codes.
    pub lengths: AtomicU32,
}

/// [`Control`] as shared memory.
#[repr(C, align(64))]
#[allow(missing_docs, reason = "the fields are those of Control")]
pub struct ControlCell {
    pub schema: AtomicU32,
    pub modes: AtomicU32,
    pub modes_lapsed: AtomicU32,
    pub expiry_shift: AtomicU32,
    pub heartbeat_deadline: AtomicU64,
    pub key: [AtomicU64; 2],
    pub host_mask: AtomicU32,
    pub wide_mask: AtomicU32,
    pub event_budget: AtomicU32,
    pub length_count: AtomicU32,
    pub lengths: [AtomicU32; LENGTHS / 4],
    pub modes_wanted: AtomicU32,
    pub cell_mask: AtomicU32,
    pub feed_host_mask: AtomicU32,
    pub feed_wide_mask: AtomicU32,
    pub feed_generation: AtomicU32,
    pub feed_length_count: [AtomicU32; 2],
    pub tick_ns: AtomicU32,
    pub configured: AtomicU32,
    pub feed_lengths: [[AtomicU32; LENGTHS / 4]; 2],
    pub capture_reasons: AtomicU32,
    pub capture_budget: AtomicU32,
    pub insert_budget: AtomicU32,
    pub sketch_seed: AtomicU64,
    pub gate: [AtomicU64; 2],
    pub gate_batch: AtomicU32,
    pub heavy: AtomicU32,
    pub window_shift: AtomicU32,
    pub lengths4: AtomicU32,
}

/// [`FeedBucket`] as shared memory.
#[repr(C, align(64))]
pub struct FeedCell {
    /// Addresses.
    pub addresses: [AtomicU32; FEED_WAYS],
}

/// [`LimitClass`] as shared memory; each limit is cost and tolerance.
#[repr(C)]
pub struct LimitCell {
    /// Packets, bytes, connections.
    pub limits: [[AtomicU64; 2]; 3],
    /// Violations.
    pub violations: [AtomicU64; 2],
    /// Time barred.
    pub penalty: AtomicU64,
    reserved: AtomicU64,
}

/// [`CpuStats`] as shared memory, word by word.
#[repr(C, align(64))]
pub struct StatsCell(pub [AtomicU64; size_of::<CpuStats>() / 8]);

const _: () = assert!(size_of::<HostCell>() == size_of::<HostBucket>());
const _: () = assert!(size_of::<WideCell>() == size_of::<WideBucket>());
const _: () = assert!(size_of::<ControlCell>() == size_of::<Control>());
const _: () =
    assert!(std::mem::offset_of!(ControlCell, window_shift) == std::mem::offset_of!(Control, window_shift));
const _: () = assert!(size_of::<FeedCell>() == size_of::<FeedBucket>());
const _: () = assert!(size_of::<LimitCell>() == size_of::<LimitClass>());
const _: () = assert!(size_of::<StatsCell>() == size_of::<CpuStats>());

// SAFETY: atomics only, in each case.
unsafe impl Cell for HostCell {}
// SAFETY: as above.
unsafe impl Cell for WideCell {}
// SAFETY: as above.
unsafe impl Cell for ControlCell {}
// SAFETY: as above.
unsafe impl Cell for StatsCell {}
// SAFETY: as above.
unsafe impl Cell for FeedCell {}
// SAFETY: as above.
unsafe impl Cell for LimitCell {}
// SAFETY: as above.
unsafe impl Cell for AtomicU64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Cell for [AtomicU32; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Cell for [AtomicU64; N] {}

/// Has the processor fetch the beginning of a value, and does not wait for it.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing and never faults; every x86-64 processor has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// An array map, mapped for reading and writing for as long as this lives.
pub struct Mapped<T: Cell> {
    start: NonNull<T>,
    count: usize,
}

// SAFETY: the memory is shared between threads (and with the kernel) as atomics only.
unsafe impl<T: Cell> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Cell> Sync for Mapped<T> {}

impl<T: Cell> Mapped<T> {
    /// Maps the `count` elements of an array map made with `BPF_F_MMAPABLE`, whose values are as large as `T`.
    ///
    /// # Errors
    /// When the map is smaller, or not mappable.
    pub fn new(map: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        let bytes = size_of::<T>() * count as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice; the kernel refuses more than the map has.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self { start, count: count as usize }),
            None => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}

impl<T: Cell> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `count` elements are mapped, page-aligned, and `T` is valid for any bits and for concurrent writes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T: Cell> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`; no reference outlives self.
        unsafe { libc::munmap(self.start.as_ptr().cast(), size_of::<T>() * self.count) };
    }
}
