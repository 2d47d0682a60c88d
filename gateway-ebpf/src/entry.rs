//! The life of a packet.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use gateway_common::{
    address::Wide,
    packet::{self, Fragment, Link, Transport},
    reason::{Mode, Modes, Part, Proto, Reason},
};

use crate::{
    ban,
    maps::{CONTROL, STATS},
    packet::Packet,
    scene::Scene,
    verdict::{Finding, carry_out, finish, pass},
};

/// Judges one packet. `FRAGS`: the frame may go on in further buffers.
#[inline(always)]
pub fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    // SAFETY: helpers without arguments.
    let (cpu, jiffies) = unsafe { (bpf_get_smp_processor_id(), bpf_jiffies64()) };
    let (Some(control), Some(stats)) = (CONTROL.get(0), STATS.get_ptr_mut(cpu)) else {
        return XDP_PASS;
    };
    let packet = Packet::new(ctx.data(), ctx.data_end(), !FRAGS);
    // SAFETY: the context is the kernel's.
    let length = if FRAGS { unsafe { bpf_xdp_get_buff_len(ctx.ctx) as u32 } } else { packet.readable() };
    // Four stores of one register; a run of zeros would become a call of memset, which the verifier refuses.
    let zero = core::hint::black_box(0u64);
    let unknown = Wide { high: zero, low: zero };
    let mut scene = Scene {
        ctx: ctx.ctx,
        control,
        stats,
        jiffies,
        modes: control.modes_at(jiffies),
        length,
        is_v4: false,
        protocol: 0,
        tcp_flags: 0,
        proto: Proto::Unparsed as u32,
        source_port: 0,
        destination_port: 0,
        source: unknown,
        destination: unknown,
    };
    if scene.modes == Modes::OFF {
        return finish(&scene, Reason::Off as u32, XDP_PASS);
    }
    match packet::link(&packet) {
        Ok(Link::V4(offset)) => v4(&mut scene, &packet, offset),
        Ok(Link::V6(offset)) => v6(&mut scene, &packet, offset),
        Ok(Link::Other(_)) => {
            scene.proto = Proto::NotIp as u32;
            pass(&scene, Reason::NotIp)
        }
        Err(reason) => malformed(&scene, reason),
    }
}

#[inline(always)]
fn on(scene: &Scene, part: Part) -> bool {
    scene.modes.get(part) != Mode::Off
}

/// A packet that breaks its format ends here: dropped when that part enforces, else passed for the stack to judge.
#[inline(always)]
fn malformed(scene: &Scene, reason: Reason) -> u32 {
    if on(scene, Part::Malformed)
        && let Some(action) = carry_out(scene, Finding::new(reason))
    {
        return action;
    }
    pass(scene, Reason::Clean)
}

#[inline(always)]
fn v4(scene: &mut Scene, packet: &Packet, offset: u32) -> u32 {
    let header = match packet::v4::header(packet, offset) {
        Ok(header) => header,
        Err(reason) => return malformed(scene, reason),
    };
    scene.is_v4 = true;
    scene.source = Wide::mapped(header.source);
    scene.destination = Wide::mapped(header.destination);
    scene.protocol = header.protocol;
    scene.proto = class(header.protocol, header.fragment);
    if on(scene, Part::Bans)
        && let Some(finding) = ban::check_v4(scene, header.source)
        && let Some(action) = carry_out(scene, finding)
    {
        return action;
    }
    if let Some(fault) = header.fault {
        return malformed(scene, fault);
    }
    upper(scene, packet, header.protocol, header.payload, header.fragment, false)
}

#[inline(always)]
fn v6(scene: &mut Scene, packet: &Packet, offset: u32) -> u32 {
    let header = match packet::v6::header(packet, offset) {
        Ok(header) => header,
        Err(reason) => return malformed(scene, reason),
    };
    scene.source = header.source;
    scene.destination = header.destination;
    scene.protocol = header.next;
    scene.proto = class(header.next, Fragment::Whole);
    if on(scene, Part::Bans)
        && let Some(finding) = ban::check_v6(scene, header.source)
        && let Some(action) = carry_out(scene, finding)
    {
        return action;
    }
    if let Some(fault) = header.fault {
        return malformed(scene, fault);
    }
    let upper_layer = match packet::v6::extensions(packet, header.next, header.payload) {
        Ok(upper_layer) => upper_layer,
        Err(reason) => return malformed(scene, reason),
    };
    scene.protocol = upper_layer.protocol;
    scene.proto = class(upper_layer.protocol, upper_layer.fragment);
    // RFC 4861: only packets that no router has forwarded carry a hop limit of 255.
    let on_link = header.hop_limit == 255;
    upper(scene, packet, upper_layer.protocol, upper_layer.offset, upper_layer.fragment, on_link)
}

/// Protocol class for the counters.
#[inline(always)]
fn class(protocol: u8, fragment: Fragment) -> u32 {
    if fragment == Fragment::Later { Proto::Fragment as u32 } else { Proto::of(protocol) as u32 }
}

#[inline(always)]
fn upper(
    scene: &mut Scene,
    packet: &Packet,
    protocol: u8,
    offset: u32,
    fragment: Fragment,
    on_link: bool,
) -> u32 {
    if fragment == Fragment::Later {
        return pass(scene, Reason::Clean);
    }
    let transport = match packet::transport(packet, protocol, offset) {
        Ok(transport) => transport,
        // The first fragment must hold the whole transport header (RFC 1858, RFC 7112).
        Err(Reason::Truncated) if fragment == Fragment::First => {
            return malformed(scene, Reason::TinyFragment);
        }
        Err(reason) => return malformed(scene, reason),
    };
    let (source_port, destination_port, tcp_flags) = transport.ports();
    scene.source_port = source_port;
    scene.destination_port = destination_port;
    scene.tcp_flags = tcp_flags;
    if let Transport::Icmp { kind: 133..=137, .. } = transport
        && on_link
        && protocol == 58
    {
        return pass(scene, Reason::Discovery);
    }
    pass(scene, Reason::Clean)
}
