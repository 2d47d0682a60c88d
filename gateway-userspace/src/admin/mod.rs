//! The control side: an HTTP/JSON API on a Unix socket for the command line, and a listener for
//! health checks and metrics.
//!
//! Whoever may connect to the socket (mode 0600, so: the daemon's own user and root) may do
//! everything; the TCP listener only reads.

mod api;
mod health;
mod serve;
mod socket;

pub use api::{Api, ApiError, Request};
pub use health::{Health, Phase};
pub use serve::{MAX_BODY_BYTES, MAX_CONNECTIONS, serve_health, serve_socket};
pub use socket::{SocketError, bind_socket};
