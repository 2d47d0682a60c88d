//! The real program over real sockets: restarts and reloads that nobody notices, what it tells the service manager, a server
//! that dies, and descriptors that run out.
//!
//! `GATEWAY_HANDOVER_REQUESTS=100000` (with `_RELOADS` and `_RESTARTS`) sets the size; the usual run is smaller.

mod descriptors;
mod killed;
mod lab;
mod restarts;
mod service_manager;
