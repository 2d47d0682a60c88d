//! Offences become decisions: scenarios, the ledger, escalation and expiry.

mod decision;
mod denied;
mod engine;
mod guard;
mod ledger;
mod offence;
mod scenarios;
mod scope;
mod slots;
mod traffic;
mod trust;

pub use crate::config::bans::{Action, OffenceKind};
pub use decision::{Cause, Decision, DecisionId, DecisionIdError, Ending, Origin, OriginError};
pub use denied::{Denied, Traits};
pub use engine::{Counts, Engine};
pub use guard::{Guard, GuardRefusal, Guarded};
pub use ledger::{Change, Ended, Ledger, Length, Order, Refusal};
pub use offence::Offence;
pub use scenarios::{Context, Level, Overflow, Scenarios};
pub use scope::{Scope, ScopeError};
pub use traffic::{Rates, Requests, Traffic};
pub use trust::{Memory, Noted, Record, Trust};
