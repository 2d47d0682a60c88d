//! The gateway daemon: TLS, client identity, limits, WAF, proxy, and the hand on the kernel's maps.
//!
//! Modules import only from lower levels: docs/architecture.md has the table, and `cargo xtask check` enforces it.

pub mod access;
pub mod acme;
pub mod admin;
pub mod app;
pub mod bans;
pub mod cli;
pub mod client;
pub mod config;
pub mod fetch;
pub mod http;
pub mod inspect;
pub mod kernel;
pub mod limits;
pub mod listen;
pub mod pipeline;
pub mod respond;
pub mod rules;
pub mod telemetry;
pub mod upstream;
pub mod wire;
