//! The life of a packet.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    helpers::generated::{bpf_jiffies64, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use gateway_common::{
    address::Wide,
    hash::{hash_v4, hash_wide},
    packet::{self, ICMP6, Link, Source as _, TCP, is_new_connection, v4, v6},
    reason::{Modes, Part, Proto, Reason},
    stats::CpuStats,
};

use crate::{
    allow::Source,
    ban, feed, flood, limit,
    maps::{control, masked},
    packet::Packet,
    port,
    rare::{self, Upper},
    scene::{Judged, record},
    verdict::{Finding, carry_out, pass},
};

/// Judges one packet. `FRAGS`: the frame may go on in further buffers.
///
/// What nearly every packet is (no options, no fragment, no extension header) is parsed on the spot, the rest by a function of its
/// own; the checks are the same.
#[inline(always)]
pub fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    let (control, Some(record)) = (control(), record()) else { return XDP_PASS };
    let ctx = ctx.ctx;
    let packet = if FRAGS { Packet::new(ctx) } else { Packet::whole(ctx) };
    // SAFETY: a helper without arguments, and one that takes the kernel's context.
    let (jiffies, length) = unsafe {
        (bpf_jiffies64(), if FRAGS { bpf_xdp_get_buff_len(ctx) as u32 } else { packet.readable() })
    };
    record.scene.jiffies = jiffies;
    let modes = control.modes_at(jiffies);
    let judged = Judged { ctx, control, jiffies, modes, length };
    if modes == Modes::OFF {
        record.scene.proto = Proto::Unparsed as u32;
        return pass(&judged, record, Reason::Off);
    }
    let link = link(&packet);
    if link.ether_type == packet::IPV4
        && let Some(header) = v4::plain(&packet, link.offset)
    {
        record.scene.proto = class(header.protocol, rare::WHOLE);
        let upper = Upper::plain(header.protocol, header.payload);
        return of_v4(&judged, record, &packet, header.source, &upper);
    }
    if link.ether_type == packet::IPV6
        && let Some(header) = v6::plain(&packet, link.offset)
    {
        record.scene.proto = Proto::of(header.next) as u32;
        let on_link = header.hop_limit == v6::ON_LINK;
        let upper = Upper { on_link, ..Upper::plain(header.next, header.payload) };
        return of_v6(&judged, record, &packet, header.source, &upper);
    }
    let word = rare::parse(ctx, u64::from(FRAGS));
    let (source, upper) = (record.scene.source, Upper::of(word));
    match rare::family(word) {
        rare::V4 => of_v4(&judged, record, &packet, source.low as u32, &upper),
        rare::V6 => of_v6(&judged, record, &packet, source, &upper),
        rare::OTHER => pass(&judged, record, Reason::NotIp),
        _ => malformed(&judged, record, Source::NONE, upper.fault),
    }
}

/// The link layer; what has no tags is looked at first.
#[inline(always)]
fn link(packet: &Packet) -> Link {
    if let Some(header) = packet.window::<{ packet::ETHERNET as usize }>(0) {
        // Not as one switch with the tags.
        let ether_type = masked::<0xffff>(u64::from(header.half(12)));
        if ether_type == u64::from(packet::IPV4.to_be()) {
            return Link { ether_type: packet::IPV4, offset: packet::ETHERNET, fault: None };
        }
        if ether_type == u64::from(packet::IPV6.to_be()) {
            return Link { ether_type: packet::IPV6, offset: packet::ETHERNET, fault: None };
        }
    }
    packet::link(packet)
}

/// A packet that breaks its format ends here: dropped when that part enforces, else passed for the stack to judge. `fault`: the code
/// of the reason.
#[inline(always)]
fn malformed(judged: &Judged, record: &mut CpuStats, source: Source, fault: u32) -> u32 {
    if judged.modes.any(&[Part::Malformed])
        && let Some(action) = carry_out(judged, record, source, Part::Malformed, Finding::malformed(fault))
    {
        return action;
    }
    pass(judged, record, Reason::Clean)
}

#[inline(always)]
fn of_v4(judged: &Judged, record: &mut CpuStats, packet: &Packet, address: u32, upper: &Upper) -> u32 {
    let source = Source::v4(address);
    let near = ban::near_v4(address);
    if near {
        if judged.modes.any(&[Part::Bans]) {
            // Apart, so that a finding of either kind need not be told from the other.
            let host = ban::host_v4(judged.control, judged.jiffies, address);
            if host.is_some() {
                if let Some(action) = carry_out(judged, record, source, Part::Bans, host) {
                    return action;
                }
            } else if ban::coarse_v4(address) {
                let prefix = ban::prefix_v4(judged.control, judged.jiffies, address);
                if prefix.is_some()
                    && let Some(action) = carry_out(judged, record, source, Part::Bans, prefix)
                {
                    return action;
                }
            }
        }
        if judged.modes.any(&[Part::Feeds])
            && ban::coarse_v4(address)
            && feed::has_v4(judged.control, address)
        {
            let finding = Finding::new(Reason::Feed);
            if let Some(action) = carry_out(judged, record, source, Part::Feeds, finding) {
                return action;
            }
        }
    }
    let mut fault = upper.fault;
    if upper.plain {
        fault = v4::plain_fault(packet, upper.offset - v4::MIN_HEADER).map_or(0, |reason| reason as u32);
        // The filter knows the addresses that none may have as a source.
        if fault == 0 && near && v4::bogus_source(address) {
            fault = Reason::BogusSource as u32;
        }
    }
    if fault != 0 {
        return malformed(judged, record, source, fault);
    }
    of_upper(judged, record, packet, source, near, upper)
}

#[inline(always)]
fn of_v6(judged: &Judged, record: &mut CpuStats, packet: &Packet, address: Wide, upper: &Upper) -> u32 {
    let source = Source::v6(address);
    if judged.modes.any(&[Part::Bans]) {
        let finding = ban::check_v6(judged.control, judged.jiffies, address);
        if finding.is_some()
            && let Some(action) = carry_out(judged, record, source, Part::Bans, finding)
        {
            return action;
        }
    }
    if judged.modes.any(&[Part::Feeds]) && feed::has_v6(judged.control, address) {
        let finding = Finding::new(Reason::Feed);
        if let Some(action) = carry_out(judged, record, source, Part::Feeds, finding) {
            return action;
        }
    }
    let mut fault = upper.fault;
    if upper.plain {
        fault = v6::plain_fault(packet, upper.offset - v6::FIXED_HEADER, address)
            .map_or(0, |reason| reason as u32);
    }
    if fault != 0 {
        return malformed(judged, record, source, fault);
    }
    if !upper.plain {
        record.scene.proto = class(upper.protocol, upper.fragment);
    }
    of_upper(judged, record, packet, source, true, upper)
}

/// `near`: whether a policy prefix may match the source.
#[inline(always)]
fn of_upper(
    judged: &Judged,
    record: &mut CpuStats,
    packet: &Packet,
    source: Source,
    near: bool,
    upper: &Upper,
) -> u32 {
    if upper.fragment != rare::LATER {
        // A segment of a connection there is has nothing to do with ports and the gate: what most packets are is asked first.
        let tcp = is_tcp(upper.protocol);
        let transport = if tcp {
            packet::tcp(packet, upper.offset)
        } else {
            packet::transport(packet, upper.protocol, upper.offset)
        };
        if let Some(fault) = transport.fault {
            // The first fragment must hold the whole transport header (RFC 1858, RFC 7112).
            let tiny = fault == Reason::Truncated && upper.fragment == rare::FIRST;
            let fault = if tiny { Reason::TinyFragment as u32 } else { fault as u32 };
            return malformed(judged, record, source, fault);
        }
        let syn = tcp && is_new_connection(transport.flags);
        if syn || !tcp {
            if upper.protocol == ICMP6 && upper.on_link && (133..=137).contains(&(transport.destination >> 8))
            {
                return pass(judged, record, Reason::Discovery);
            }
            if judged.modes.any(&[Part::Ports]) {
                let finding = port::closed(upper.protocol, transport.destination);
                if finding.is_some()
                    && let Some(action) = carry_out(judged, record, source, Part::Ports, finding)
                {
                    return action;
                }
            }
        }
        if syn {
            if let Some(action) = limited::<true>(judged, record, source, near) {
                return action;
            }
            if judged.modes.any(&[Part::Flood]) && flood::gate_shut(judged, record) {
                judged.write_down(record, source);
                let header = if source.v4.is_some() { v4::MIN_HEADER } else { v6::FIXED_HEADER };
                let plain = if upper.direct { upper.offset.wrapping_sub(header) } else { 0 };
                return flood::refuse(judged.ctx, u64::from(plain), u64::from(transport.destination));
            }
            return pass(judged, record, Reason::Clean);
        }
    }
    limited::<false>(judged, record, source, near).unwrap_or_else(|| pass(judged, record, Reason::Clean))
}

/// The source's own limits, and the sketch's for one without a cell. `SYN`: the packet asks for a new connection.
#[inline(always)]
fn limited<const SYN: bool>(
    judged: &Judged,
    record: &mut CpuStats,
    source: Source,
    near: bool,
) -> Option<u32> {
    if !judged.modes.any(&[Part::Limits]) {
        return None;
    }
    let hash = match source.v4 {
        Some(v4) => hash_v4(&judged.control.key, v4),
        None => hash_wide(&judged.control.key, source.wide().high, 0, 8),
    };
    let word = limit::check::<SYN>(judged, record, source, hash, near);
    if word == limit::UNTRACKED {
        if judged.modes.any(&[Part::Flood]) && flood::heavy(judged, record, hash) {
            return carry_out(judged, record, source, Part::Flood, Finding::new(Reason::Flood));
        }
    } else if word != 0 {
        return carry_out(judged, record, source, Part::Limits, Finding::from_word(word));
    }
    None
}

/// True for TCP; asked in a way that LLVM does not make one switch with the other protocols.
#[inline(always)]
fn is_tcp(protocol: u8) -> bool {
    masked::<0xff>(u64::from(protocol)) == u64::from(TCP)
}

/// Protocol class for the counters. Where the parser has already told the protocols apart, as that of plain IPv6 has, [`Proto::of`]
/// alone takes fewer instructions.
#[inline(always)]
fn class(protocol: u8, fragment: u32) -> u32 {
    if fragment == rare::LATER {
        Proto::Fragment as u32
    } else if is_tcp(protocol) {
        Proto::Tcp as u32
    } else {
        Proto::of(protocol) as u32
    }
}
