//! The server: workers that accept, HTTP/1.1 and HTTP/2, draining.

mod activity;
mod connection;
mod date;
mod frames;
mod h1;
mod h2;
mod h3;
mod numbers;
mod overload;
mod redirect;
mod server;
mod websocket;
mod worker;

pub use server::{Server, ServerParts, StartError};

#[cfg(test)]
mod tests;
