//! The composition root: builds every part from the configuration, connects them, and takes the
//! gateway through its life: start, reload, drain.
//!
//! Everything that can be refused is refused before the first socket listens. The data plane runs on
//! threads of its own ([`crate::http::Server`]); the runtime here is the control plane, and nothing on
//! it can stall a request.

mod acme;
mod adapters;
mod capture;
mod certificates;
mod checked;
mod control;
mod decisions;
mod drops;
mod error;
mod handover;
mod kernel;
mod notify;
mod parts;
mod privileges;
mod push_back;
mod reload;
mod status;
mod why;
mod xdp;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Health, Phase};
use crate::cli::{ConfigArgs, RunArgs};
use crate::rules;
use crate::telemetry;

pub use checked::{Checked, check};
pub use error::AppError;

use handover::TakeOver;
use parts::Running;

/// How often rule files are looked at, expired bans are swept and the kernel is told that we live.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often expired bans are cleared from the kernel's tables.
const SWEEP: Duration = Duration::from_mins(1);

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// What keeps it from starting, as a sentence with the remedy. Nothing is left half-started.
pub fn run(args: &RunArgs) -> Result<(), AppError> {
    let RunArgs { config: args, take_over } = args;
    if *take_over && handover::detach().map_err(AppError::TakeOver)? {
        return Ok(());
    }
    let checked = check(args)?;
    let log = telemetry::start(&checked.config.log).map_err(|e| AppError::Log(e.to_string()))?;
    checked.tell();
    let mut handed_over = crate::listen::adopt();
    let mut before = None;
    if *take_over {
        match TakeOver::begin(&checked.config.control.socket).map_err(AppError::TakeOver)? {
            Some((from, sockets)) => {
                before = Some(from);
                handed_over.extend(sockets);
            }
            None => tracing::warn!("no gateway runs that could be taken over from: starting as usual"),
        }
    }
    let health = checked.config.control.listen.and_then(|address| {
        let at = handed_over.iter().position(|s| s.local_addr().is_ok_and(|a| a == address))?;
        Some(handed_over.swap_remove(at))
    });
    kernel::prepare(&checked.config.kernel)?;
    privileges::drop_all_but_needed().map_err(AppError::Privileges)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(AppError::Runtime)?;
    runtime.block_on(async {
        let running = Arc::new(Running::start(checked, log, handed_over, before.as_ref())?);
        let lived = live(&running, args, health, before).await;
        if lived.is_err() {
            running.give_up();
        }
        lived
    })
}

/// From ready to drained.
async fn live(
    running: &Arc<Running>,
    args: &ConfigArgs,
    page: Option<std::net::TcpListener>,
    before: Option<TakeOver>,
) -> Result<(), AppError> {
    let (reload, mut reloads) = tokio::sync::mpsc::channel(1);
    let config = &running.config;
    let replaces = before.is_some();
    let socket = admin::bind_socket(&config.control.socket, replaces)?;
    let successors = admin::bind_socket(&handover::path(&config.control.socket), replaces)?;
    let api = Arc::new(control::api(Arc::clone(running), reload));
    let health = Arc::clone(&running.health);
    tokio::spawn(admin::serve_socket(socket, api));
    let mut kept = None;
    if let Some(address) = config.control.listen {
        let open = || -> std::io::Result<tokio::net::TcpListener> {
            let listener = page.map_or_else(|| std::net::TcpListener::bind(address), Ok)?;
            listener.set_nonblocking(true)?;
            kept = Some(listener.try_clone()?);
            tokio::net::TcpListener::from_std(listener)
        };
        let listener = open().map_err(|source| AppError::ControlListen { address, source })?;
        tokio::spawn(admin::serve_health(listener, Arc::clone(&health), Arc::new(running.registry())));
    }
    tokio::spawn(notify::watchdog());
    let io = AppError::Runtime;
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(io)?;
    let mut rotated = signal(SignalKind::user_defined1()).map_err(io)?;
    let mut restart = signal(SignalKind::user_defined2()).map_err(io)?;
    let (done, mut taken_over) = tokio::sync::mpsc::channel(1);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let mut swept = Instant::now();
    running.serve(&health)?;
    acme::start(running);
    notify::ready(&running.summary());
    tracing::info!("{}", running.summary());
    if let Some(before) = before {
        before.done();
    }
    tokio::spawn(handover::offer(successors, Arc::clone(running), kept, done));
    let mut has_successor = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = taken_over.recv() => {
                has_successor = true;
                break;
            }
            _ = restart.recv() => handover::start_successor(),
            _ = hangup.recv() => {
                running.reopen_logs();
                // The outcome is in the log; there is nobody else to tell.
                let _ = reload::reload(running, args).await;
            }
            _ = rotated.recv() => running.reopen_logs(),
            Some(answer) = reloads.recv() => {
                // The caller may have gone away meanwhile.
                let _ = answer.send(reload::reload(running, args).await);
            }
            _ = heartbeat.tick() => {
                running.beat();
                running.forget_limits();
                tokio::task::block_in_place(|| running.look_after_certificates());
                if swept.elapsed() >= SWEEP {
                    swept = Instant::now();
                    running.sweep();
                }
                if running.rules_changed() {
                    let _ = reload::reload(running, args).await;
                }
            }
        }
    }
    if !has_successor {
        notify::stopping();
    }
    health.set(Phase::Draining);
    tracing::info!(seconds = running.config.server.drain.as_secs(), "draining");
    let cut = tokio::task::block_in_place(|| running.drain());
    if cut > 0 {
        tracing::warn!(connections = cut, "the drain deadline passed; these connections were cut off");
    }
    running.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Health as it is before anything listens.
fn starting() -> Arc<Health> {
    Arc::new(Health::default())
}

/// How long to wait between looks at rule files.
const fn watch_every() -> Duration {
    rules::WATCH_INTERVAL
}
