//! The policy in force, as each thread sees it.
//!
//! Every request looks at it, and how its limits stand is told by it. A counter that all workers share would be the dearest
//! part of a decision, so each thread has a handle of its own, and looks at one number to know whether there is a new
//! policy. A thread that decides nothing keeps the old policy until it does.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::policy::Policy;

/// A policy that is held for the time of a decision, on one thread.
#[derive(Clone)]
#[expect(clippy::redundant_allocation, reason = "the inner one is every thread's, the outer this thread's")]
pub(super) struct InForce(Rc<Arc<Policy>>);

impl InForce {
    /// This policy, whether or not it still is in force.
    pub(super) fn of(policy: Arc<Policy>) -> Self {
        Self(Rc::new(policy))
    }
}

impl Deref for InForce {
    type Target = Arc<Policy>;

    #[inline]
    fn deref(&self) -> &Arc<Policy> {
        &self.0
    }
}

/// The policy that is in force, and which one it is.
pub(super) struct Current {
    policy: ArcSwap<Policy>,
    /// Differs between all policies of the process.
    number: AtomicU64,
}

impl Current {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy: ArcSwap::from_pointee(policy), number: AtomicU64::new(next()) }
    }

    /// Puts another policy in force, made from the one before.
    pub(super) fn replace(&self, make: impl FnOnce(&Policy) -> Policy) {
        let policy = make(&self.policy.load());
        self.policy.store(Arc::new(policy));
        // Last: who sees this number finds the policy.
        self.number.store(next(), Ordering::Release);
    }

    /// The policy in force.
    #[inline]
    pub(super) fn get(&self) -> InForce {
        thread_local!(static HERE: RefCell<Option<(u64, InForce)>> = const { RefCell::new(None) });
        let number = self.number.load(Ordering::Acquire);
        let known = HERE.try_with(|here| match &*here.borrow() {
            Some((of, policy)) if *of == number => Some(policy.clone()),
            _ => None,
        });
        match known {
            Ok(Some(policy)) => policy,
            _ => self.fetch(|policy| drop(HERE.try_with(|here| here.replace(Some((number, policy)))))),
        }
    }

    #[cold]
    fn fetch(&self, keep: impl FnOnce(InForce)) -> InForce {
        let policy = InForce::of(self.policy.load_full());
        keep(policy.clone());
        policy
    }
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
