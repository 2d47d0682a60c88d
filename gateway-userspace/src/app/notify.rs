//! What the service manager is told (sd_notify(3)); without one, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// Serving.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reading the configuration again; followed by [`ready`], whatever comes of it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// Another process has taken over.
pub fn main_process(pid: u32) {
    send(&[NotifyState::MainPid(pid)]);
}

/// Draining.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Keeps the service manager's watchdog fed, from the runtime that must not hang; ends at once
/// where no watchdog is set.
pub async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((limit / 3).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    // A service manager that went away is no reason to stop serving.
    let _ = sd_notify::notify(states);
}
