//! What the engine answers.

/// The answer of a phase: what the caller does with the transaction.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Go on; an `allow` action switched off what its scope says. Nothing for the caller to do.
    Allow {
        /// What is not inspected any more.
        scope: AllowScope,
        /// The rule that said so.
        rule_id: u64,
    },
    /// Answer with this status instead of the origin's response.
    Deny {
        /// HTTP status.
        status: u16,
        /// The rule that said so; 0 for a body limit.
        rule_id: u64,
    },
    /// Close the connection without an answer.
    Drop {
        /// The rule that said so.
        rule_id: u64,
    },
    /// Answer with a redirect.
    Redirect {
        /// HTTP status, 302 unless the rule names another of 301, 302, 303, 307, 308.
        status: u16,
        /// The Location, macros expanded, CR, LF and NUL removed.
        location: String,
        /// The rule that said so.
        rule_id: u64,
    },
}

/// What an `allow` action lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AllowScope {
    /// `allow`: every phase but logging.
    Transaction,
    /// `allow:request`: the request phases.
    Request,
    /// `allow:phase`: this phase.
    Phase,
}

impl Verdict {
    /// Whether the caller has to answer instead of the origin.
    pub fn is_blocking(&self) -> bool {
        matches!(self, Self::Deny { .. } | Self::Drop { .. } | Self::Redirect { .. })
    }

    /// The rule behind it, if any.
    pub fn rule_id(&self) -> Option<u64> {
        match self {
            Self::Pass => None,
            Self::Allow { rule_id, .. }
            | Self::Deny { rule_id, .. }
            | Self::Drop { rule_id }
            | Self::Redirect { rule_id, .. } => Some(*rule_id),
        }
    }
}

/// What became of a piece of body handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyOutcome {
    /// Kept for inspection; send more.
    Continue,
    /// The body is not inspected (access is off, the type is not wanted, an `allow`, or the limit is reached with
    /// `ProcessPartial`): what follows needs no handing over.
    Enough,
    /// Over the limit with `Reject`: answer so.
    Stop(Verdict),
}
