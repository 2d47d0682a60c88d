//! Rate limits: policy, arithmetic, stores, answers.
//!
//! A request meets [`Limiter::check`], which decides on all limits that apply to it together and returns at once
//! unless Redis has to be asked or the request is held back. What is let through carries a [`Permit`], to be
//! settled when the answer is known.

mod address_hash;
mod clearance;
mod clock;
mod decision;
mod dry_run;
mod headers;
mod in_force;
mod key;
mod limiter;
mod metrics;
mod pending;
mod plain;
mod policy;
mod redis;
mod request;
mod running;
mod slot;
pub mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tools;
pub mod window;

pub use clearance::{ClearanceError, Clearances, MAX_LIFE_S};
pub use clock::Clock;
pub use decision::{Decision, Holding, Permit, Persistence, Refusal, Response, Standing};
pub use dry_run::{DryRun, Refused, dry_run};
pub use headers::Pairs;
pub use limiter::{Check, Limiter, MAX_DELAYED};
pub use metrics::{Counter, LimitMetrics};
pub use pending::Pending;
pub use policy::{Limit, Places, Policy};
pub use request::{LimitRequest, Outcome};
pub use running::MAX_KEYS_PER_SHARD;
pub use tools::{KeyView, LimitView, Subject, ToolError};
