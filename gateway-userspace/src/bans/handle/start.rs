//! Starting the bans task.

use std::hash::RandomState;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, broadcast, mpsc};

use super::{Handle, adopt};
use crate::bans::clock::{Clock, SystemClock};
use crate::bans::crowdsec::Followed;
use crate::bans::denied::Denied;
use crate::bans::engine::Engine;
use crate::bans::guard::{Guard, Guarded};
use crate::bans::queue::{QUEUE, Queue};
use crate::bans::store::{Before, Keep, Loaded, Store, StoreError};
use crate::bans::task::{AsnOf, LISTENERS, Numbers, QUESTIONS, Shared, Task};
use crate::bans::traffic::{Rates, Traffic};
use crate::bans::writer::lists::{self, ListBox};
use crate::bans::writer::{self, KernelLists, KernelWriter, Mailbox, WriterState};
use crate::client::IpNetwork;
use crate::config::bans::Bans;

/// What the bans are started with.
pub struct Parts {
    /// Who is never banned.
    pub spared: Spared,
    /// The file that decisions are kept in; none: they end with the process.
    pub database: Option<PathBuf>,
    /// The kernel; none: layer 7 alone refuses.
    pub kernel: Option<Box<dyn KernelWriter>>,
    /// The kernel's lists; none: layer 7 alone refuses who is listed.
    pub lists: Option<Box<dyn KernelLists>>,
    /// Looks autonomous systems up, where there is a database.
    pub asn_of: Option<AsnOf>,
    /// Called first on the threads that bans wait for: has the scheduler let them in soon.
    pub prompt: Option<fn()>,
    /// This node's name: unique in a cluster.
    pub node: Arc<str>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            spared: Spared::default(),
            database: None,
            kernel: None,
            lists: None,
            asn_of: None,
            prompt: None,
            node: "node".into(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Who is never banned, besides those that `[bans]` names.
#[derive(Clone, Debug, Default)]
pub struct Spared {
    /// `kernel.allow` of the configuration.
    pub allow: Vec<IpNetwork>,
    /// The proxies whose word about clients is believed.
    pub trusted_proxies: Vec<IpNetwork>,
    /// This host's addresses.
    pub own: Vec<IpNetwork>,
}

impl Spared {
    /// The guard of this configuration.
    pub fn guard(&self, config: &Bans) -> Guard {
        Guard::new(config.widest_v4, config.widest_v6)
            .with(self.own.iter().copied(), Guarded::Own)
            .with(config.management.iter().copied(), Guarded::Management)
            .with(self.trusted_proxies.iter().copied(), Guarded::TrustedProxy)
            .with(self.allow.iter().copied(), Guarded::Allowlist)
    }
}

/// The bans can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread.
    #[error("the threads that decide on bans and write them to the kernel can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts the bans task on a thread of its own, and the kernel's writer on another. What else the process does, such
/// as reading a large list or an operator's import, never stands between an offence and its ban.
///
/// # Errors
/// The database or the writer's thread can't be had; nothing is left running then.
pub fn start(config: &Bans, mut parts: Parts) -> Result<Handle, StartError> {
    let now_ms = parts.clock.now_ms();
    let guard = parts.spared.guard(config);
    let mut engine = Engine::new(config, guard, node_number(&parts.node));
    let (store, before) = match &parts.database {
        None => (None, Before::Unknown),
        Some(path) => {
            let keep = Keep { named: config.anonymise_after, at_all: config.retain };
            let (store, loaded) = Store::open(path, keep, parts.clock.clone())?;
            let before = loaded.before;
            restore(&mut engine, loaded, now_ms);
            (Some(store), before)
        }
    };
    if let Some(kernel) = parts.kernel.as_mut().filter(|_| before != Before::Closed) {
        match kernel.list() {
            Ok(standing) => adopt::adopt(&mut engine.ledger, &standing, before, now_ms),
            Err(error) => tracing::warn!(%error, "bans that stand there can't be looked at"),
        }
    }
    let (queue, offences) = Queue::new(QUEUE);
    let shared = Arc::new(Shared {
        queue,
        denied: Denied::new(RandomState::new()),
        traffic: Traffic::new(RandomState::new()),
        writer: WriterState::default(),
        list_writer: WriterState::default(),
        mailbox: parts.kernel.is_some().then(|| Arc::new(Mailbox::default())),
        lists: parts.lists.is_some().then(|| Arc::new(ListBox::default())),
        feeds: ArcSwap::default(),
        feed_networks: AtomicU64::new(0),
        challenge_path: ArcSwapOption::from(config.challenge_path.clone().map(Arc::new)),
        guard_changed: Notify::new(),
        numbers: Numbers::default(),
    });
    let (listeners, _) = broadcast::channel(LISTENERS);
    let mut task = Task {
        engine,
        rates: Rates::new(&shared.traffic, now_ms),
        shared: shared.clone(),
        clock: parts.clock.clone(),
        store,
        shortcut: parts.kernel.as_ref().and_then(|kernel| kernel.shortcut()),
        crowdsec: Followed::default(),
        forgot_ms: now_ms,
        is_stirred: false,
        stopping: false,
        asn_of: parts.asn_of,
        listeners: listeners.clone(),
    };
    task.settle();
    task.publish_all();
    let prompt = parts.prompt.unwrap_or(|| {});
    // The mailbox holds what was restored before the writer first looks: it removes what it does not find.
    if let (Some(kernel), Some(mailbox)) = (parts.kernel, shared.mailbox.clone()) {
        let (shared, clock) = (shared.clone(), parts.clock.clone());
        std::thread::Builder::new().name("bans-writer".into()).spawn(move || {
            prompt();
            writer::run(kernel, &mailbox, &shared.writer, &*clock);
        })?;
    }
    if let (Some(kernel), Some(shelf)) = (parts.lists, shared.lists.clone()) {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("bans-lists".into())
            .spawn(move || lists::run(kernel, &shelf, &shared.list_writer))?;
    }
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("bans".into()).spawn(move || {
        prompt();
        runtime.block_on(task.run(offences, asked));
    })?;
    Ok(Handle { shared, questions, listeners, clock: parts.clock })
}

fn restore(engine: &mut Engine, loaded: Loaded, now_ms: u64) {
    let (held, ended) = (loaded.held.len(), loaded.ended.len());
    for network in loaded.allow {
        engine.ledger.allow(network, now_ms);
    }
    for ended in loaded.ended {
        engine.ledger.restore_ended(ended, now_ms);
    }
    for decision in loaded.held {
        engine.ledger.restore(decision, now_ms);
    }
    let (unreadable, replayed) = (loaded.unreadable, loaded.replayed);
    tracing::info!(held, ended, unreadable, replayed, "decisions are restored");
}

/// A node's number in decision ids: FNV-1a of its name.
fn node_number(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
