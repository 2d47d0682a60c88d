//! Lists of networks: read or downloaded, checked, swapped in whole; a bad one keeps the old.

mod fetch;
mod parse;
mod set;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;

use super::guard::Guard;
use super::handle::Stopped;
use super::{Action, Handle};
use crate::client::IpNetwork;
use crate::config::bans::Feed;
use crate::fetch::Client;
use fetch::{Fetched, Known, fetch};
pub use parse::{List, ListError, parse};
pub use set::{FeedSet, NetworkSet, listed};

/// Most networks of all feeds together that the kernel is given; what is beyond it is left to layer 7.
pub const MAX_KERNEL_ENTRIES: usize = 2_000_000;

/// How a feed stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FeedStatus {
    /// The feed.
    pub name: Arc<str>,
    /// Networks in force.
    pub networks: usize,
    /// Networks left out, for they cover who is never banned or are wider than the bound.
    pub guarded: usize,
    /// Lines that could not be read.
    pub bad_lines: usize,
    /// When it was last taken in or found unchanged, in Unix milliseconds; 0: never.
    pub fresh_ms: u64,
    /// Why the last try failed.
    pub error: Option<String>,
}

struct Loaded {
    feed: Feed,
    known: Known,
    list: Arc<List>,
    due: Instant,
}

/// What the feeds' task shows.
#[derive(Debug, Default)]
pub struct Feeds {
    statuses: Mutex<Vec<FeedStatus>>,
    look: Notify,
}

impl Feeds {
    /// Has the task look for newer lists now, whatever their intervals.
    pub fn refresh(&self) {
        self.look.notify_one();
    }

    /// How every feed stands.
    pub fn statuses(&self) -> Vec<FeedStatus> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Follows the feeds: spawns a task on the current runtime that runs until it is aborted or the
/// bans end.
pub fn follow(feeds: Vec<Feed>, client: Client, handle: Handle) -> (Arc<Feeds>, tokio::task::JoinHandle<()>) {
    let shown = Arc::new(Feeds::default());
    let status = |feed: &Feed| FeedStatus { name: feed.name.clone(), ..FeedStatus::default() };
    *shown.statuses.lock().unwrap_or_else(PoisonError::into_inner) = feeds.iter().map(status).collect();
    let loaded = feeds
        .into_iter()
        .map(|feed| Loaded {
            feed,
            known: Known::default(),
            list: Arc::new(List { networks: Vec::new(), bad: 0 }),
            due: Instant::now(),
        })
        .collect();
    let for_task = shown.clone();
    let task = tokio::spawn(async move { run(loaded, &client, &handle, &for_task).await });
    (shown, task)
}

async fn run(mut feeds: Vec<Loaded>, client: &Client, handle: &Handle, shown: &Feeds) {
    while !feeds.is_empty() {
        let mut changed = false;
        for (index, loaded) in feeds.iter_mut().enumerate() {
            if loaded.due > Instant::now() {
                continue;
            }
            let outcome = refresh(loaded, client).await;
            loaded.due = Instant::now() + loaded.feed.interval;
            let mut statuses = shown.statuses.lock().unwrap_or_else(PoisonError::into_inner);
            let status = &mut statuses[index];
            match outcome {
                Ok(new) => {
                    changed |= new;
                    status.fresh_ms = handle.clock_ms();
                    status.error = None;
                }
                Err(error) => {
                    tracing::warn!(feed = %loaded.feed.name, %error, "the former list stays in force");
                    status.error = Some(error);
                }
            }
        }
        if changed && apply(&feeds, handle, shown).await.is_err() {
            return;
        }
        let next = feeds.iter().map(|f| f.due).min().unwrap_or_else(Instant::now);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = shown.look.notified() => feeds.iter_mut().for_each(|f| f.due = Instant::now()),
            () = handle.guard_changed() => {
                if apply(&feeds, handle, shown).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Looks for a newer list; whether there is one.
async fn refresh(loaded: &mut Loaded, client: &Client) -> Result<bool, String> {
    let feed = &loaded.feed;
    let (bytes, known) = match fetch(feed, &loaded.known, client).await.map_err(|e| e.to_string())? {
        Fetched::Unchanged => return Ok(false),
        Fetched::New(bytes, known) => (bytes, known),
    };
    let (format, column, max) = (feed.format, feed.column, feed.max_entries);
    let parsed = tokio::task::spawn_blocking(move || parse(&bytes, format, column, max)).await;
    let list = parsed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    tracing::info!(feed = %feed.name, networks = list.networks.len(), bad = list.bad, "a list is read");
    loaded.list = Arc::new(list);
    loaded.known = known;
    Ok(true)
}

/// Leaves out what is guarded, and puts all sets in force in one step each.
async fn apply(feeds: &[Loaded], handle: &Handle, shown: &Feeds) -> Result<(), Stopped> {
    let guard = handle.ask(|task| task.engine.ledger.guard().clone()).await?;
    let now_ms = handle.clock_ms();
    let lists: Vec<(Arc<str>, Action, Arc<List>)> =
        feeds.iter().map(|f| (f.feed.name.clone(), f.feed.action, f.list.clone())).collect();
    // A million networks take a while: not on a thread that others wait for.
    let built = tokio::task::spawn_blocking(move || build(&lists, &guard, now_ms)).await;
    let (sets, kernel) = built.map_err(|_| Stopped)?;
    let mut statuses = shown.statuses.lock().unwrap_or_else(PoisonError::into_inner);
    for ((loaded, set), status) in feeds.iter().zip(&sets).zip(statuses.iter_mut()) {
        status.networks = set.set.networks().len();
        status.guarded = loaded.list.networks.len() - status.networks;
        status.bad_lines = loaded.list.bad;
    }
    drop(statuses);
    handle.shared().feed_networks.store(kernel.len() as u64, Ordering::Relaxed);
    handle.shared().feeds.store(Arc::new(sets));
    handle.put_feeds(kernel);
    Ok(())
}

/// The set of each list without what is guarded, and what of all of them the kernel drops: sorted, no duplicates.
fn build(
    lists: &[(Arc<str>, Action, Arc<List>)],
    guard: &Guard,
    since_ms: u64,
) -> (Vec<FeedSet>, Arc<[IpNetwork]>) {
    let mut sets = Vec::new();
    let mut kernel: Vec<IpNetwork> = Vec::new();
    for (name, action, list) in lists {
        let keep = |n: &&IpNetwork| guard.check_listed(**n).is_ok();
        let networks: Vec<IpNetwork> = list.networks.iter().filter(keep).copied().collect();
        if *action == Action::KernelBan {
            let room = MAX_KERNEL_ENTRIES.saturating_sub(kernel.len());
            kernel.extend(networks.iter().take(room));
        }
        let set = Arc::new(NetworkSet::new(networks));
        sets.push(FeedSet { name: name.clone(), action: *action, set, since_ms });
    }
    kernel.sort_unstable();
    kernel.dedup();
    (sets, kernel.into())
}

#[cfg(test)]
mod tests;
