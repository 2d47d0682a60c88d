//! Sampled drops, as the ring buffer carries them.

/// One packet that was dropped, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DropRecord {
    /// When, in jiffies.
    pub jiffies: u64,
    /// Source address; IPv4 as IPv4-mapped. Zero when the packet was not parsed so far.
    pub source: [u64; 2],
    /// Destination address, likewise.
    pub destination: [u64; 2],
    /// Interface it came in on.
    pub interface: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// What matched: for a ban its place in the table (bucket * ways + way), for a limit the class, else zero.
    pub matched: u32,
    /// Source port, where there is one.
    pub source_port: u16,
    /// Destination port, where there is one; for ICMP the type and code.
    pub destination_port: u16,
    /// Code of [`crate::reason::Reason`].
    pub reason: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Code of [`crate::reason::BanReason`], for bans.
    pub ban_reason: u8,
    /// 1 when dropped, 0 when only observed.
    pub dropped: u32,
}

const _: () = assert!(size_of::<DropRecord>() == 64);
