//! XDP programs of the gateway: the checks of one packet, in order.
//!
//! `entry -> parse -> bans -> feeds -> ports -> limits -> verdict`; the allowlist is asked whenever a check would
//! drop. No map that is looked at for every packet is reached through a helper call: all are arrays, whose look-ups
//! the verifier turns into a bounds check and an addition.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the xdp macro makes functions without documentation")]
#![allow(unsafe_code)]
#![allow(internal_features, reason = "the BPF target has no fetch_add or compare_exchange on AtomicU64")]
#![allow(
    clippy::inline_always,
    reason = "a function that is not inlined costs a call, and a frame for the verifier"
)]
#![feature(core_intrinsics)]

mod allow;
mod ban;
mod clock;
mod entry;
mod events;
mod extensions;
mod feed;
mod limit;
mod maps;
mod packet;
mod port;
mod scene;
mod verdict;

use aya_ebpf::{macros::xdp, programs::XdpContext};

/// For interfaces whose frames fit in one buffer.
#[xdp]
pub fn gateway(ctx: XdpContext) -> u32 {
    entry::run::<false>(&ctx)
}

/// For interfaces that spread a frame over several buffers (kernel 5.18 and later).
#[xdp(frags)]
pub fn gateway_frags(ctx: XdpContext) -> u32 {
    entry::run::<true>(&ctx)
}

/// Never attached: the daemon test-runs it to read the kernel's clock.
#[xdp]
pub fn gateway_clock(_ctx: XdpContext) -> u32 {
    clock::run()
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
