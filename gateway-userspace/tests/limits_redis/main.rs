//! Limits against real Redis processes: one body for every store, several nodes, and what goes wrong.

mod faults;
mod loss;
mod node;
mod script;
mod server;
mod stores;
mod together;
