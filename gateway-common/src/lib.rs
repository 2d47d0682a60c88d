//! What the kernel programs and the daemon share: map records, the packet parser, table and limiter arithmetic.
//!
//! Everything here is `no_std`, free of allocation, and pure: the bytes of a packet come through [`packet::Source`],
//! the time is an argument. So the host unit-tests and fuzzes the code that the kernel runs.
//!
//! Addresses are numbers in host order throughout (`10.0.0.1` is `0x0a00_0001`), IPv6 addresses are two `u64`
//! halves, high first; an IPv4 prefix in a table for both families is the IPv4-mapped IPv6 prefix.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "BPF functions that are not inlined cost a call and, for the verifier, a frame"
)]

#[cfg(test)]
extern crate std;

pub mod address;
pub mod bans;
pub mod capture;
pub mod control;
pub mod event;
pub mod feeds;
pub mod flood;
pub mod gcra;
pub mod hash;
pub mod marks;
pub mod packet;
pub mod policy;
pub mod ports;
pub mod reason;
pub mod stats;
pub mod time;

/// Version of every record layout in the maps. Any change of a layout or of its meaning raises it; the daemon
/// adopts pinned maps of its own version only.
pub const SCHEMA: u32 = 5;

/// The first [`SCHEMA`] with today's ban records: [`bans`], the tables HOSTS and WIDE with their hits, the units of
/// expiry; `schema` is the first word of [`control::Control`] in all of them. Bans of any schema from here on are carried over into a new one;
/// a change of those records raises this to the new schema.
pub const BANS_SINCE: u32 = 1;
