//! What a sampled drop tells of the packet beside its source: most are judged before that is looked at.

use aya_ebpf::bindings::xdp_md;
use gateway_common::{
    packet::{self, Fragment},
    stats::Scene,
};

use crate::{extensions, packet::Packet, scene::record};

/// Writes destination, protocol, ports and TCP flags of the packet into the scene, as far as it has them. Exported, so that the
/// verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look_further(ctx: *mut xdp_md) -> u64 {
    let Some(record) = record() else { return 0 };
    let scene = &mut record.scene;
    // SAFETY: fields of the scene. Written one by one: a run of zeros would become a call of memset.
    unsafe {
        core::ptr::write_volatile(&raw mut scene.destination.high, 0);
        core::ptr::write_volatile(&raw mut scene.destination.low, 0);
        core::ptr::write_volatile(&raw mut scene.protocol, 0);
        core::ptr::write_volatile(&raw mut scene.ports, 0);
        core::ptr::write_volatile(&raw mut scene.tcp_flags, 0);
    }
    if ctx.is_null() {
        return 0;
    }
    let frame = Packet::new(ctx);
    let link = packet::link(&frame);
    match link.ether_type {
        packet::IPV4 => {
            let header = packet::v4::header(&frame, link.offset);
            if !header.addressed {
                return 0;
            }
            scene.destination = gateway_common::address::Wide::mapped(header.destination);
            scene.protocol = u32::from(header.protocol);
            if header.fault.is_none() {
                upper(scene, &frame, header.protocol, header.payload, header.fragment);
            }
        }
        packet::IPV6 => {
            let header = packet::v6::header(&frame, link.offset);
            if !header.addressed {
                return 0;
            }
            scene.destination = header.destination;
            scene.protocol = u32::from(header.next);
            if header.fault.is_some() {
                return 0;
            }
            let found = extensions::upper(ctx, header.next, header.payload);
            if found.fault.is_none() {
                scene.protocol = u32::from(found.protocol);
                upper(scene, &frame, found.protocol, found.offset, found.fragment);
            }
        }
        _ => {}
    }
    1
}

#[inline(always)]
fn upper(scene: &mut Scene, frame: &Packet, protocol: u8, offset: u32, fragment: Fragment) {
    if fragment == Fragment::Later {
        return;
    }
    let transport = packet::transport(frame, protocol, offset);
    if transport.fault.is_none() {
        scene.ports = u32::from(transport.source) << 16 | u32::from(transport.destination);
        scene.tcp_flags = u32::from(transport.flags);
    }
}
