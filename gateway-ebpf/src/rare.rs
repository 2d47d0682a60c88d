//! Parsing what few packets are: options, fragments, extension headers, what is not IP, what is cut short. In a function of its own,
//! which gives what it found in one word and the source in the scene.

use aya_ebpf::bindings::xdp_md;
use gateway_common::{
    address::Wide,
    packet::{self, Fragment, v4, v6},
    reason::{Proto, Reason},
};

use crate::{
    extensions,
    packet::Packet,
    scene::{self, record},
};

/// An IPv4 packet.
pub const V4: u32 = 1;
/// An IPv6 packet.
pub const V6: u32 = 2;
/// Not IP.
pub const OTHER: u32 = 3;

/// Not a fragment.
pub const WHOLE: u32 = 0;
/// The first fragment.
pub const FIRST: u32 = 1;
/// A later one.
pub const LATER: u32 = 2;

/// Where the transport header is, and what is known of it before it is looked at.
#[derive(Clone, Copy)]
pub struct Upper {
    /// IP protocol number.
    pub protocol: u8,
    /// Its offset.
    pub offset: u32,
    /// [`WHOLE`], [`FIRST`] or [`LATER`].
    pub fragment: u32,
    /// Code of what is wrong with the packet so far, or zero.
    pub fault: u32,
    /// An IPv6 packet that no router has forwarded.
    pub on_link: bool,
    /// The IP header, without options and extensions, is directly before it.
    pub direct: bool,
    /// The IP header was parsed on the spot and not yet searched for faults.
    pub plain: bool,
}

impl Upper {
    /// Nothing yet.
    pub const NONE: Self = Self {
        protocol: 0,
        offset: 0,
        fragment: WHOLE,
        fault: 0,
        on_link: false,
        direct: false,
        plain: false,
    };

    /// Behind an IP header as nearly every packet has it.
    #[inline(always)]
    pub const fn plain(protocol: u8, offset: u32) -> Self {
        Self { protocol, offset, direct: true, plain: true, ..Self::NONE }
    }

    /// What [`parse`] found.
    #[inline(always)]
    pub const fn of(word: u64) -> Self {
        Self {
            protocol: (word >> 16) as u8,
            offset: word as u32 & 0xffff,
            fragment: (word >> 24) as u32 & 3,
            fault: (word >> 32) as u32 & 31,
            on_link: word >> 40 & 1 != 0,
            direct: word >> 41 & 1 != 0,
            plain: false,
        }
    }
}

/// The family of the packet that [`parse`] looked at.
#[inline(always)]
pub const fn family(word: u64) -> u32 {
    (word >> 48) as u32 & 3
}

/// Parses any packet and leaves its source and protocol class in the scene. `frags`: the frame may go on in further buffers.
/// Exported, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn parse(ctx: *mut xdp_md, frags: u64) -> u64 {
    let Some(record) = record() else { return 0 };
    let scene = &mut record.scene;
    scene::set_source(scene, Wide { high: 0, low: 0 });
    scene.proto = Proto::Unparsed as u32;
    if ctx.is_null() {
        return code(Reason::Truncated);
    }
    let packet = if frags != 0 { Packet::new(ctx) } else { Packet::whole(ctx) };
    let link = packet::link(&packet);
    if let Some(fault) = link.fault {
        return code(fault);
    }
    match link.ether_type {
        packet::IPV4 => {
            let header = v4::header(&packet, link.offset);
            let fault = header.fault.map_or(0, code);
            if !header.addressed {
                return fault;
            }
            scene::set_source(scene, Wide::mapped(header.source));
            scene.proto = Proto::of(header.protocol) as u32;
            let fragment = fragment(header.fragment);
            if fragment == LATER {
                scene.proto = Proto::Fragment as u32;
            }
            let direct = header.payload == link.offset + v4::MIN_HEADER;
            word(V4, header.protocol, header.payload, fragment, direct) | fault
        }
        packet::IPV6 => {
            let header = v6::header(&packet, link.offset);
            let fault = header.fault.map_or(0, code);
            if !header.addressed {
                return fault;
            }
            scene::set_source(scene, header.source);
            scene.proto = Proto::of(header.next) as u32;
            if fault != 0 {
                return word(V6, header.next, header.payload, WHOLE, true) | fault;
            }
            let upper = extensions::upper(ctx, header.next, header.payload);
            let fault = upper.fault.map_or(0, code);
            let on_link = u64::from(header.hop_limit == v6::ON_LINK) << 40;
            let direct = upper.offset == header.payload;
            word(V6, upper.protocol, upper.offset, fragment(upper.fragment), direct) | on_link | fault
        }
        _ => {
            scene.proto = Proto::NotIp as u32;
            u64::from(OTHER) << 48
        }
    }
}

#[inline(always)]
fn word(family: u32, protocol: u8, offset: u32, fragment: u32, direct: bool) -> u64 {
    u64::from(offset & 0xffff)
        | u64::from(protocol) << 16
        | u64::from(fragment) << 24
        | u64::from(direct) << 41
        | u64::from(family) << 48
}

#[inline(always)]
fn code(reason: Reason) -> u64 {
    (reason as u64) << 32
}

#[inline(always)]
fn fragment(fragment: Fragment) -> u32 {
    match fragment {
        Fragment::Whole => WHOLE,
        Fragment::First => FIRST,
        Fragment::Later => LATER,
    }
}
