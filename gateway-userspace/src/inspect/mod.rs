//! HTTP in, verdict out: between the request as the daemon holds it and the rule engine.

mod audit;
mod body;
mod metrics;
mod spool;
mod transaction;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use audit::{
    AuditLog, AuditWriter, Ended, MAX_LINES, MAX_QUEUED, MAX_QUEUED_BYTES, Target as AuditTarget,
    start as start_audit,
};
pub use body::Replay;
pub use spool::Spool;
pub use transaction::{Findings, Inspection, RequestView, TlsFacts};

use gateway_waf::{Ruleset, Services, Transaction};

use body::Holding;

use crate::config::waf::Mode;
use crate::wire::BodyError;

/// Transactions whose memory one worker keeps; further ones are freed.
pub const MAX_KEPT: usize = 64;
/// Bytes of bodies in memory under inspection at a time, of all workers together; past it a request is refused as overload.
pub const MAX_INSPECTED_BYTES: u64 = 512 << 20;

/// Why inspection refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WafDenial {
    /// A rule denies with a status.
    #[error("refused by rule {rule_id}")]
    Deny {
        /// The status that the rule names.
        status: u16,
        /// The rule; 0 for a body limit of the rules.
        rule_id: u64,
    },
    /// A rule closes the connection.
    #[error("dropped by rule {rule_id}")]
    Drop {
        /// The rule.
        rule_id: u64,
    },
    /// A rule redirects.
    #[error("redirected by rule {rule_id}")]
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where to.
        location: String,
        /// The rule.
        rule_id: u64,
    },
    /// The body ended before its end.
    #[error("the body can't be inspected: {0}")]
    Body(BodyError),
    /// [`MAX_INSPECTED_BYTES`] are under inspection, or the storage for large bodies is full.
    #[error("too many bodies are under inspection")]
    Overload,
}

/// Makes inspections; keeps their memory for each worker.
pub struct Inspector {
    kept: Box<[Mutex<Vec<Transaction>>]>,
    services: Services,
    audit: Option<Arc<AuditLog>>,
    holding: Arc<Holding>,
    requests: AtomicU64,
    refused: AtomicU64,
    detected: AtomicU64,
    micros: AtomicU64,
}

impl Inspector {
    /// For `workers` workers; `services` is what rules may use (collections, geography); `audit` is where matches are
    /// written down; `spool` is where large bodies wait.
    pub fn new(workers: usize, services: Services, audit: Option<Arc<AuditLog>>, spool: Arc<Spool>) -> Self {
        Self {
            kept: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            services,
            audit,
            holding: Arc::new(Holding { memory: AtomicU64::new(0), spool }),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            detected: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        }
    }

    /// An inspection of one request under `ruleset`; one that passes everything when `mode` is off. `policy` is the
    /// number of what its route changes about the rules ([`crate::config::policy`]), 0 for nothing.
    pub fn begin(&self, worker: usize, ruleset: &Arc<Ruleset>, mode: Mode, policy: u32) -> Inspection {
        if mode == Mode::Off {
            return Inspection::off();
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let kept = self.kept.get(worker).and_then(|k| k.lock().unwrap_or_else(PoisonError::into_inner).pop());
        let transaction = match kept {
            Some(mut transaction) => {
                if !Arc::ptr_eq(transaction.ruleset(), ruleset) {
                    transaction.set_ruleset(Arc::clone(ruleset));
                }
                transaction
            }
            None => Transaction::new(Arc::clone(ruleset), self.services.clone()),
        };
        Inspection::new(Box::new(transaction), mode, policy, Arc::clone(&self.holding))
    }

    /// Runs the logging phase, writes down what is to be, and takes the memory back. What matched, the logging phase
    /// included; nothing when nothing was inspected.
    pub fn end(&self, worker: usize, mut inspection: Inspection, ended: Ended) -> Option<Findings> {
        self.micros.fetch_add(inspection.took().as_micros() as u64, Ordering::Relaxed);
        let mut transaction = inspection.take_transaction(ended.status)?;
        let would_refuse = inspection.would_refuse() || transaction::would_refuse(&transaction);
        if would_refuse {
            let counter = if inspection.is_blocking() { &self.refused } else { &self.detected };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        transaction.logging(ended.ended_unix_nanos);
        let findings = transaction::findings(&transaction);
        if let Some(audit) = &self.audit {
            audit.take(&mut transaction, ended);
        }
        if let Some(kept) = self.kept.get(worker) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_KEPT {
                kept.push(*transaction);
            }
        }
        Some(findings)
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("workers", &self.kept.len()).finish_non_exhaustive()
    }
}
