//! CrowdSec's decisions: a bouncer in stream mode on its local API.
//!
//! The first answer holds everything, the next ones what is new and what was deleted. After a failure
//! the whole is asked for again, and what is not in it any more is withdrawn. Our own decisions are told there, if wished.

mod report;
mod usage;
mod wire;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::handle::Stopped;
use super::ledger::{Ledger, Length, Order};
use super::task::Task;
use super::{Action, Cause, Ending, Handle, Origin, Scope};
use crate::config::bans::CrowdSec;
use crate::fetch::{Client, HttpError, Shown, TlsFileError};
pub use report::Reported;
pub use usage::Packets;
pub use wire::{Entry, News, entry, go_duration_ms};

/// Most decisions of the local API that are followed; further ones are counted and left out.
pub const MAX_FOLLOWED: usize = 500_000;
/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 512 << 20;
/// Longest wait after failures.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Largest key file, in bytes.
const MAX_KEY_BYTES: u64 = 4096;

/// The neighbour can't be asked with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum CrowdSecError {
    /// The key can't be read.
    #[error("`bans.crowdsec`: the secret {path} (`key_file` or `password_file`) can't be read: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The key is none.
    #[error(
        "`bans.crowdsec`: {0} holds no secret: put what `cscli bouncers add gateway` printed into `key_file`, and the password of `cscli machines add` into `password_file`"
    )]
    NoKey(PathBuf),
    /// A certificate or its key can't be used.
    #[error("`bans.crowdsec`: {0}")]
    Tls(#[from] TlsFileError),
}

/// Why an answer was of no use.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("the local API refuses the key (403): make one with `cscli bouncers add gateway`")]
    Forbidden,
    #[error("the local API refuses this machine: make one with `cscli machines add`, and validate it")]
    Login,
    #[error("the local API answers {0}")]
    Status(StatusCode),
    #[error("the local API's answer can't be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Stopped(#[from] Stopped),
}

/// How the neighbour fares; for metrics and status.
#[derive(Debug, Default)]
pub struct CrowdSecState {
    /// Whether the last question was answered.
    pub connected: AtomicBool,
    /// Decisions followed.
    pub followed: AtomicU64,
    /// Decisions left out: of an unknown type or scope, guarded, or over the bound.
    pub left_out: AtomicU64,
    /// What was told to it.
    pub reported: Reported,
    /// Usage metrics sent.
    pub metrics_sent: AtomicU64,
    /// Whether it knows no usage metrics: they came with 1.6.3.
    pub metrics_unknown: AtomicBool,
    last_error: Mutex<Option<Arc<str>>>,
}

impl CrowdSecState {
    /// Why the last question was not answered; none while all is well.
    pub fn last_error(&self) -> Option<Arc<str>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, error: Option<&Failure>) {
        let was = self.connected.swap(error.is_none(), Ordering::Relaxed);
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error
            && (was || last.is_none())
        {
            tracing::warn!(%error, "CrowdSec's decisions are not followed; those known hold until their time");
        }
        *last = error.map(|e| e.to_string().into());
    }
}

/// Follows the local API: spawns a task on the current runtime that runs until it is aborted or the
/// bans end.
///
/// # Errors
/// The key can't be had. The API not being there is no error.
pub fn follow(
    config: &CrowdSec,
    packets: Option<Packets>,
    handle: Handle,
) -> Result<(Arc<CrowdSecState>, tokio::task::JoinHandle<()>), CrowdSecError> {
    let shown = config.identity.as_ref().map(|identity| Shown {
        certificate_file: &identity.certificate_file,
        private_key_file: &identity.private_key_file,
    });
    let client = Client::with(config.ca_file.as_deref(), shown)?;
    let mut headers = HeaderMap::new();
    if let Some(file) = &config.key_file {
        let mut key =
            HeaderValue::from_str(&secret(file)?).map_err(|_| CrowdSecError::NoKey(file.clone()))?;
        key.set_sensitive(true);
        headers.insert("x-api-key", key);
    }
    let state = Arc::new(CrowdSecState::default());
    if let Some(report) = &config.report {
        let watcher = report::Watcher::new(config, report, client.clone(), state.clone())?;
        // It listens from here on, not from when the task first runs: what is decided in between is told too.
        tokio::spawn(watcher.run(handle.listen()));
    }
    if let Some(every) = config.metrics_interval {
        let (url, headers, client) = (config.url.clone(), headers.clone(), client.clone());
        let clock = handle.clock();
        tokio::spawn(
            usage::Usage { url, every, headers, client, state: state.clone(), packets, clock }.run(),
        );
    }
    let (config, for_task) = (config.clone(), state.clone());
    let task = tokio::spawn(async move { run(&config, &client, &headers, &handle, &for_task).await });
    Ok((state, task))
}

/// The text of a file that holds a key or a password.
fn secret(path: &Path) -> Result<String, CrowdSecError> {
    use std::io::Read;
    let failed = |error| CrowdSecError::Key { path: path.to_owned(), error };
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_KEY_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let text = text.trim();
    if text.is_empty() { Err(CrowdSecError::NoKey(path.to_owned())) } else { Ok(text.to_owned()) }
}

async fn run(
    config: &CrowdSec,
    client: &Client,
    headers: &HeaderMap,
    handle: &Handle,
    state: &Arc<CrowdSecState>,
) {
    let mut whole = true;
    let mut wait = config.interval;
    loop {
        match poll(config, client, headers, handle, state, whole).await {
            Ok(()) => {
                state.tell(None);
                (whole, wait) = (false, config.interval);
            }
            Err(Failure::Stopped(_)) => return,
            Err(failure) => {
                state.tell(Some(&failure));
                whole = true;
                wait = (wait * 2).min(MAX_WAIT).max(config.interval);
            }
        }
        tokio::time::sleep(wait).await;
    }
}

async fn poll(
    config: &CrowdSec,
    client: &Client,
    headers: &HeaderMap,
    handle: &Handle,
    state: &Arc<CrowdSecState>,
    whole: bool,
) -> Result<(), Failure> {
    let url = format!("{}/v1/decisions/stream?startup={whole}", config.url);
    let answer = client.send(Method::GET, &url, headers, Bytes::new(), MAX_ANSWER_BYTES).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::FORBIDDEN => return Err(Failure::Forbidden),
        other => return Err(Failure::Status(other)),
    }
    let news: News = serde_json::from_slice(&answer.body)?;
    let state = state.clone();
    let ours = config.report.as_ref().map(|report| report::origin(&report.machine));
    handle.ask(move |task| take_in(task, news, whole, ours.as_deref(), &state)).await?;
    Ok(())
}

/// What the local API holds on one scope, by its ids.
type OnScope = HashMap<i64, Entry>;

/// What is followed, kept beside the ledger: the API may hold several decisions on one scope, the
/// ledger has the strongest of them.
#[derive(Debug, Default)]
pub struct Followed {
    scopes: HashMap<Scope, OnScope>,
    len: usize,
}

fn take_in(task: &mut Task, news: News, whole: bool, ours: Option<&str>, state: &CrowdSecState) {
    let now_ms = task.clock.now_ms();
    let mut followed = std::mem::take(&mut task.crowdsec);
    if whole {
        followed = Followed::default();
    }
    let mut touched: HashSet<Scope> = HashSet::new();
    for deleted in news.deleted.into_iter().flatten() {
        let Some((scope, _)) = entry(&deleted, now_ms) else { continue };
        if let Some(on_scope) = followed.scopes.get_mut(&scope)
            && on_scope.remove(&deleted.id).is_some()
        {
            followed.len -= 1;
            touched.insert(scope);
        }
    }
    for new in news.new.into_iter().flatten() {
        // What we told ourselves.
        if ours == Some(&*new.origin) {
            continue;
        }
        match entry(&new, now_ms) {
            Some((scope, entry)) if followed.len < MAX_FOLLOWED => {
                let before = followed.scopes.entry(scope.clone()).or_default().insert(new.id, entry);
                followed.len += usize::from(before.is_none());
                touched.insert(scope);
            }
            _ => drop(state.left_out.fetch_add(1, Ordering::Relaxed)),
        }
    }
    let ledger = &mut task.engine.ledger;
    if whole {
        ledger.end_where(Ending::Withdrawn, now_ms, |d| {
            d.origin == Origin::CrowdSec && !followed.scopes.contains_key(&d.scope)
        });
    }
    for scope in touched {
        let refused = settle(ledger, &mut followed, &scope, now_ms);
        state.left_out.fetch_add(refused, Ordering::Relaxed);
    }
    state.followed.store(followed.len as u64, Ordering::Relaxed);
    task.crowdsec = followed;
}

/// Makes the ledger hold the strongest of what the API holds on a scope.
fn settle(ledger: &mut Ledger, followed: &mut Followed, scope: &Scope, now_ms: u64) -> u64 {
    let Some(on_scope) = followed.scopes.get_mut(scope) else { return 0 };
    let before = on_scope.len();
    on_scope.retain(|_, entry| entry.end_ms > now_ms);
    followed.len -= before - on_scope.len();
    let best = on_scope.values().max_by_key(|e| (e.action, e.end_ms)).cloned();
    if best.is_none() {
        followed.scopes.remove(scope);
    }
    let held = ledger.on(scope).find(|d| d.origin == Origin::CrowdSec).cloned();
    if let (Some(held), Some(best)) = (&held, &best)
        && held.action == best.action
        && held.end_or_max().abs_diff(best.end_ms) < 2_000
    {
        return 0;
    }
    if let Some(held) = held {
        ledger.remove(held.id, Ending::Withdrawn, now_ms);
    }
    let Some(best) = best else { return 0 };
    let order = Order {
        id: None,
        scope: scope.clone(),
        action: best.action,
        origin: Origin::CrowdSec,
        reason: best.reason,
        scenario: None,
        cause: Cause::default(),
        length: Length::Until(Some(best.end_ms)),
    };
    match ledger.decide(order, now_ms) {
        Ok(_) => 0,
        Err(refusal) => {
            tracing::debug!(%refusal, "a decision of CrowdSec is refused");
            1
        }
    }
}

/// What the action of a decision's type is here; none: it is left alone.
fn action(kind: &str, scope: &Scope) -> Option<Action> {
    match (kind, scope) {
        ("ban", Scope::Network(_)) => Some(Action::KernelBan),
        ("ban", _) => Some(Action::L7Deny),
        ("captcha", _) => Some(Action::Challenge),
        _ => None,
    }
}
