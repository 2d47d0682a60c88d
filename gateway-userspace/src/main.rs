//! Entry point of the gateway.
fn main() {}
