//! The walk over IPv6 extension headers: rare, so a function of its own.

use aya_ebpf::bindings::xdp_md;
use gateway_common::{
    packet::{
        Fragment,
        v6::{self, Upper},
    },
    reason::Reason,
};

use crate::packet::Packet;

/// Walks from the header `next` at `offset`, if it is an extension header.
#[inline(always)]
pub fn upper(ctx: *mut xdp_md, next: u8, offset: u32) -> Upper {
    if !v6::is_extension(next) {
        return Upper { protocol: next, offset, fragment: Fragment::Whole, fault: None };
    }
    let word = walk_extensions(ctx, u64::from(next), u64::from(offset));
    let fragment = match word >> 40 & 3 {
        0 => Fragment::Whole,
        1 => Fragment::First,
        _ => Fragment::Later,
    };
    let fault = match word >> 48 & 3 {
        0 => None,
        1 => Some(Reason::Truncated),
        _ => Some(Reason::ExtensionDepth),
    };
    Upper { protocol: (word >> 32) as u8, offset: word as u32, fragment, fault }
}

/// The result in one word: offset, protocol, fragment, fault. Exported so that the verifier checks it on its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_extensions(ctx: *mut xdp_md, next: u64, offset: u64) -> u64 {
    if ctx.is_null() {
        return 1 << 48;
    }
    let upper = v6::extensions(&Packet::new(ctx), next as u8, offset as u32);
    let fragment = match upper.fragment {
        Fragment::Whole => 0,
        Fragment::First => 1,
        Fragment::Later => 2,
    };
    let fault = match upper.fault {
        None => 0,
        Some(Reason::Truncated) => 1,
        Some(_) => 2,
    };
    u64::from(upper.offset) | u64::from(upper.protocol) << 32 | fragment << 40 | fault << 48
}
