//! The server: workers that accept, HTTP/1.1 and HTTP/2, draining.

mod connection;
mod date;
mod h1;
mod h2;
mod numbers;
mod redirect;
mod server;
mod websocket;
mod worker;

pub use server::{Server, ServerParts, StartError};

#[cfg(test)]
mod tests;
