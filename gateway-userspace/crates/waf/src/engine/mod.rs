//! A transaction's life: phases, rules, verdicts.

mod cache;
pub mod context;
pub(crate) mod core;
mod evaluate;
mod expand;
pub mod matched;
mod phases;
mod record;
mod request;
mod request_body;
mod response;
mod screening;
mod select;
pub(crate) mod time;
pub mod transaction;
pub mod verdict;

#[cfg(test)]
mod tests;
