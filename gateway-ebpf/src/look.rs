//! What a sampled drop tells of the transport header, where the packet was judged by its source before that was looked at.

use aya_ebpf::bindings::xdp_md;
use gateway_common::packet::{self, Fragment};

use crate::{extensions, packet::Packet};

/// Ports in the lower 32 bits as the scene has them, then the TCP flags, then the protocol; zero when the packet has none or
/// breaks its format. Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look_further(ctx: *mut xdp_md) -> u64 {
    if ctx.is_null() {
        return 0;
    }
    let frame = Packet::new(ctx);
    let link = packet::link(&frame);
    let (protocol, offset, fragment, known) = match link.ether_type {
        packet::IPV4 => {
            let header = packet::v4::header(&frame, link.offset);
            (header.protocol, header.payload, header.fragment, header.addressed && header.fault.is_none())
        }
        packet::IPV6 => {
            let header = packet::v6::header(&frame, link.offset);
            if !header.addressed || header.fault.is_some() {
                return 0;
            }
            let upper = extensions::upper(ctx, header.next, header.payload);
            (upper.protocol, upper.offset, upper.fragment, upper.fault.is_none())
        }
        _ => return 0,
    };
    if !known {
        return 0;
    }
    let word = u64::from(protocol) << 40;
    if fragment == Fragment::Later {
        return word;
    }
    let transport = packet::transport(&frame, protocol, offset);
    if transport.fault.is_some() {
        return word;
    }
    word | u64::from(transport.source) << 16
        | u64::from(transport.destination)
        | u64::from(transport.flags) << 32
}
