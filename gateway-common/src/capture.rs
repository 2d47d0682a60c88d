//! Dropped packets copied for a capture file.

/// Most bytes of a packet that are copied.
pub const CAPTURE_BYTES: usize = 256;

/// One packet, or its beginning.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CaptureRecord {
    /// When, in jiffies.
    pub jiffies: u64,
    /// Interface it came in on.
    pub interface: u32,
    /// Length of the frame.
    pub length: u32,
    /// Bytes of it in `data`.
    pub captured: u32,
    /// Code of [`crate::reason::Reason`].
    pub reason: u32,
    /// The bytes; those after `captured` are whatever the ring held before.
    pub data: [u8; CAPTURE_BYTES],
}

const _: () = assert!(size_of::<CaptureRecord>() == 24 + CAPTURE_BYTES);
