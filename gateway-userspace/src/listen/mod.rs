//! Sockets, TLS, certificates.

pub mod ja4;
