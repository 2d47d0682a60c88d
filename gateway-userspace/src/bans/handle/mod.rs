//! What the rest of the daemon sees of the bans: offences in, refusals out, and the questions and
//! orders of operators.

mod adopt;
mod operator;
mod privacy;
mod start;
mod why;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::clock::Clock;
use super::denied::{Asks, Traits};
use super::feed::listed;
use super::task::{Question, Shared, Task};
use super::{Action, Cause, Change, Decision, DecisionId, Offence, Origin, Scope};
use crate::client::{ClientId, IpNetwork};
use crate::config::bans::Bans;

pub use operator::{
    AddBan, AllowEntry, BanListing, ImportReport, ListBans, OperatorError, RemoveBan, Removed,
};
pub use privacy::{Erased, Export};
pub use start::{Parts, Spared, StartError, start};
pub use why::{Listed, Why};

/// A hand on the bans task; cheap to clone. The task ends when the last one is dropped.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    questions: mpsc::Sender<Question>,
    listeners: broadcast::Sender<Arc<[Change]>>,
    clock: Arc<dyn Clock>,
}

/// The bans task is gone: the daemon is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bans task has ended: the gateway is shutting down")]
pub struct Stopped;

impl Handle {
    /// Reports an offence. Never waits: under a flood offences are merged, then dropped and counted.
    pub fn offend(&self, offence: Offence) {
        self.shared.queue.push(offence);
    }

    /// Counts a request, any request, of a client: what offences are weighed against.
    pub fn seen(&self, client: &ClientId) {
        self.shared.traffic.seen(client.addr());
    }

    /// What [`Handle::denied`] has to know of a client beside its address.
    pub fn asks(&self) -> Asks {
        self.shared.denied.asks()
    }

    /// Where who is challenged may go; none: nowhere.
    pub fn challenge_path(&self) -> Option<Arc<str>> {
        self.shared.challenge_path.load().as_deref().cloned()
    }

    /// The decision that layer 7 refuses (or challenges) this client for. Takes no lock.
    pub fn denied(&self, client: &ClientId, traits: Traits<'_>) -> Option<Arc<Decision>> {
        let now_ms = self.clock.now_ms();
        self.shared.denied.find(client.addr(), traits, now_ms).or_else(|| self.denied_by_feed(client))
    }

    /// A list that refuses this client: for those that the kernel can't reach, the kernel's lists too.
    fn denied_by_feed(&self, client: &ClientId) -> Option<Arc<Decision>> {
        let feeds = self.shared.feeds.load();
        if feeds.is_empty() {
            return None;
        }
        let (feed, network) =
            listed(&feeds, client.addr()).into_iter().find(|(feed, _)| feed.action > Action::Observe)?;
        Some(Arc::new(Decision {
            id: DecisionId::new(feed.since_ms, 0, 0),
            scope: Scope::Network(network),
            action: feed.action,
            origin: Origin::Feed(feed.name.clone()),
            reason: format!("listed by {}", feed.name).into(),
            scenario: None,
            start_ms: feed.since_ms,
            end_ms: None,
            cause: Cause::default(),
        }))
    }

    /// Unix milliseconds by the task's clock.
    pub(super) fn clock_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The task's clock.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits until operators change whom they allow.
    pub(super) async fn guard_changed(&self) {
        self.shared.guard_changed.notified().await;
    }

    /// Every batch of changes from now on. A listener that lags more than
    /// [`LISTENERS`](super::task::LISTENERS) batches is told so.
    pub fn listen(&self) -> broadcast::Receiver<Arc<[Change]>> {
        self.listeners.subscribe()
    }

    /// Whether the kernel took the last write, and what it said if not.
    pub fn kernel_health(&self) -> Result<(), Arc<str>> {
        let shared = &self.shared;
        match shared.writer.last_error().or_else(|| shared.list_writer.last_error()) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Has the kernel drop these listed networks in place of those it dropped for lists before; sorted, no duplicates.
    pub fn put_feeds(&self, networks: Arc<[IpNetwork]>) {
        if let Some(shelf) = &self.shared.lists {
            shelf.put(networks);
        }
    }

    /// Has the task do something and waits for the answer.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Task) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        self.put(question).await?.await.map_err(|_| Stopped)
    }

    /// As [`Handle::ask`]; the answer comes later, in the order of the questions.
    async fn put<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Task) -> R + Send + 'static,
    ) -> Result<oneshot::Receiver<R>, Stopped> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |task| {
            let result = question(task);
            task.settle();
            // Who asked may have gone away.
            drop(answer.send(result));
        });
        self.questions.send(question).await.map_err(|_| Stopped)?;
        Ok(answered)
    }

    /// Puts another configuration of scenarios, guard, escalation, bounds and retention in force; decisions on whom it
    /// guards end. What operators allowed stays allowed.
    ///
    /// # Errors
    /// The task is gone.
    pub async fn configure(&self, config: Bans, spared: Spared) -> Result<(), Stopped> {
        self.ask(move |task| {
            let guard = spared.guard(&config);
            task.engine.configure(&config, guard, task.clock.now_ms());
            task.shared.challenge_path.store(config.challenge_path.map(Arc::new));
        })
        .await?;
        self.shared.guard_changed.notify_one();
        Ok(())
    }

    /// Writes what is open and ends the task; every handle is of no use after.
    pub async fn stop(&self) {
        // An error means that it has ended.
        let _ended = self.ask(Task::stop).await;
        self.questions.closed().await;
    }

    /// Writes the metrics of this part.
    ///
    /// # Errors
    /// `out` refuses.
    pub fn metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (numbers, queue, writer) = (&self.shared.numbers, &self.shared.queue, &self.shared.writer);
        for (name, kind, help, value) in [
            ("held", "gauge", "Decisions that hold.", &numbers.held),
            ("began_total", "counter", "Decisions begun.", &numbers.began),
            ("ended_total", "counter", "Decisions ended.", &numbers.ended),
            ("offences_total", "counter", "Offences judged.", &numbers.offences),
            (
                "offences_guarded_total",
                "counter",
                "Offences of clients that are never banned.",
                &numbers.guarded,
            ),
            ("offences_merged_total", "counter", "Offences merged under flood.", &queue.merged),
            ("offences_dropped_total", "counter", "Offences dropped under flood.", &queue.dropped),
            ("overflows_total", "counter", "Buckets that ran over.", &numbers.overflows),
            ("buckets", "gauge", "Buckets in use.", &numbers.buckets),
            ("buckets_evicted_total", "counter", "Buckets that had to leave.", &numbers.buckets_evicted),
            ("feed_networks", "gauge", "Networks dropped for lists.", &self.shared.feed_networks),
            ("kernel_wanted", "gauge", "Bans that the kernel should hold.", &writer.wanted),
            ("kernel_written_total", "counter", "Changes written to the kernel.", &writer.written),
            ("kernel_failures_total", "counter", "Writes that the kernel refused.", &writer.failures),
            (
                "kernel_list_failures_total",
                "counter",
                "Sets of listed networks that the kernel refused.",
                &self.shared.list_writer.failures,
            ),
            ("kernel_mended_total", "counter", "Differences found and mended.", &writer.mended),
        ] {
            writeln!(out, "# HELP gateway_bans_{name} {help}\n# TYPE gateway_bans_{name} {kind}")?;
            writeln!(out, "gateway_bans_{name} {}", value.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("held", &self.shared.numbers.held).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
