//! The gateway daemon.

pub mod kernel;
