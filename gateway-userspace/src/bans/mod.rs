//! Offences become decisions: scenarios, the ledger, escalation and expiry.

mod offence;

pub use offence::{Offence, OffenceKind};
