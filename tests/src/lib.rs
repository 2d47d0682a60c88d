//! The harness of the end-to-end tests: namespaces, the real daemon, an origin, Redis, and clients.
//!
//! A test builds a [`Lab`]: a namespace for the gateway and one for each client, with a cable (a veth pair) from each
//! client to the gateway. Nothing leaves the machine, every name is unique to the process and the test, and everything
//! is taken down when its value is dropped, also by a panic.
//!
//! These tests need root and the built daemon: `cargo xtask test` brings both together. Without either they fail.

mod client;
mod cluster;
mod command;
mod crowdsec;
mod gateway;
mod lab;
mod mmdb;
mod netns;
mod origin;
pub mod places;
mod probe;
mod redis;
mod scratch;
#[cfg(feature = "xdp")]
pub mod xdp;

pub use client::{Connection, Response, curl, curl_tls, get};
pub use cluster::{Cluster, Node};
pub use command::{run, text, wait_until};
pub use crowdsec::CrowdSec;
pub use gateway::{Gateway, Settings, daemon, stop};
pub use lab::{CLEAN, Lab, Place, mount_bpffs};
pub use mmdb::Mmdb;
pub use netns::Netns;
pub use origin::Origin;
pub use probe::{Echo, Probe};
pub use redis::Redis;
pub use scratch::Scratch;
