//! XDP programs of the gateway: the checks of one packet, in order.
//!
//! `entry -> parse -> bans -> feeds -> ports -> limits -> verdict`; the allowlist is asked whenever a check would
//! drop. No map that is looked at for every packet is reached through a helper call: all are arrays, whose look-ups
//! the verifier turns into a bounds check and an addition. Calls between functions of the program are not free either: with
//! the return thunks of current mitigations one costs some 10 ns, so the common ways make none.
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
#![feature(asm_experimental_arch)]

mod allow;
mod ban;
mod bench;
mod capture;
mod clock;
mod cookie;
mod entry;
mod events;
mod extensions;
mod feed;
mod flood;
mod limit;
mod look;
mod maps;
mod packet;
mod port;
mod rare;
mod scene;
mod verdict;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};

/// For interfaces whose frames fit in one buffer.
#[xdp]
#[inline(always)]
pub fn gateway(ctx: XdpContext) -> u32 {
    entry::run::<false>(&ctx)
}

/// For interfaces that spread a frame over several buffers (kernel 5.18 and later).
#[xdp(frags)]
#[inline(always)]
pub fn gateway_frags(ctx: XdpContext) -> u32 {
    entry::run::<true>(&ctx)
}

/// Never attached: the daemon test-runs it to read the kernel's clock.
#[xdp]
pub fn gateway_clock(_ctx: XdpContext) -> u32 {
    clock::run()
}

/// For benchmarks: nothing at all.
#[xdp]
pub fn bench_empty(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// For benchmarks: a bare drop.
#[xdp]
pub fn bench_drop(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// For benchmarks: the generator of random sources alone.
#[xdp]
pub fn bench_random(ctx: XdpContext) -> u32 {
    if bench::random_source(ctx.ctx) { XDP_DROP } else { XDP_PASS }
}

/// For benchmarks: the whole program behind the generator.
#[xdp]
#[inline(always)]
pub fn bench_flood(ctx: XdpContext) -> u32 {
    if bench::random_source(ctx.ctx) { entry::run::<false>(&ctx) } else { XDP_PASS }
}

/// For live frames: a sender of packets from random sources.
#[xdp]
pub fn bench_send(ctx: XdpContext) -> u32 {
    bench::send(ctx.ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
