//! Offences become decisions: scenarios, the ledger, escalation and expiry.

pub mod anonymise;
mod clock;
pub mod cluster;
pub mod crowdsec;
mod decision;
mod denied;
pub mod dryrun;
mod engine;
pub mod feed;
pub mod geo;
mod guard;
mod handle;
pub mod http;
mod ledger;
mod offence;
mod queue;
mod scenarios;
mod scope;
mod slots;
mod store;
mod task;
mod traffic;
mod trust;
mod writer;

pub use crate::config::bans::{Action, OffenceKind};
pub use clock::{Clock, ManualClock, SystemClock};
pub use decision::{Cause, Decision, DecisionId, DecisionIdError, Ending, Origin, OriginError};
pub use denied::{Asks, Denied, Traits};
pub use engine::{Counts, Engine};
pub use guard::{Guard, GuardRefusal, Guarded};
pub use handle::{
    AddBan, AllowEntry, BanListing, Erased, Export, Handle, ImportReport, ListBans, Listed, OperatorError,
    Parts, RemoveBan, Removed, Spared, StartError, Stopped, Why, start,
};
pub use ledger::{Change, Ended, Ledger, Length, Order, Refusal};
pub use offence::Offence;
pub use scenarios::{Context, Level, Overflow, Scenarios};
pub use scope::{Scope, ScopeError};
pub use store::{Keep, Loaded, Op, Store, StoreError, StoreState};
pub use task::AsnOf;
pub use traffic::{Rates, Requests, Traffic};
pub use trust::{Memory, Noted, Record, Trust};
pub use writer::{
    BanChange, BanReason, KernelBan, KernelError, KernelLists, KernelWriter, MAX_BATCH, MAX_KERNEL_TTL_MS,
    Shortcut,
};
