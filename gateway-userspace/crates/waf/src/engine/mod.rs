//! A transaction's life: phases, rules, verdicts.

pub mod context;
pub mod matched;
pub mod transaction;
pub mod verdict;
