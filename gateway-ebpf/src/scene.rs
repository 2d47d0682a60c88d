//! All that the checks know of one packet.

use aya_ebpf::bindings::xdp_md;
use gateway_common::{
    address::Wide,
    control::Control,
    reason::Modes,
    stats::CpuStats,
};

/// One packet under judgement.
pub struct Scene {
    /// The kernel's context.
    pub ctx: *mut xdp_md,
    /// Settings.
    pub control: &'static Control,
    /// This CPU's counters.
    pub stats: *mut CpuStats,
    /// Now.
    pub jiffies: u64,
    /// Modes that count now.
    pub modes: Modes,
    /// Length of the frame.
    pub length: u32,
    /// True when the addresses are IPv4-mapped.
    pub is_v4: bool,
    /// Protocol number, as far as it is known.
    pub protocol: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Code of the class for the counters. A number: of an enum, LLVM would drop the mask that the verifier asks for.
    pub proto: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination port; for ICMP type and code.
    pub destination_port: u16,
    /// Source address.
    pub source: Wide,
    /// Destination address.
    pub destination: Wide,
}
