//! The gateway daemon: TLS, client identity, limits, WAF, proxy, and the hand on the kernel's maps.
//!
//! Modules import only from lower levels (docs/architecture.md has the table; `cargo xtask check`
//! enforces it): 1 config, telemetry, client, wire; 2 limits, bans, upstream, listen, access; 3 inspect,
//! kernel, rules; 4 respond; 5 pipeline; 6 http, admin; 7 app.

pub mod acme;
pub mod admin;
pub mod bans;
pub mod cli;
pub mod client;
pub mod config;
pub mod limits;
pub mod listen;
pub mod rules;
pub mod telemetry;
pub mod wire;
//! The gateway daemon.

pub mod kernel;
