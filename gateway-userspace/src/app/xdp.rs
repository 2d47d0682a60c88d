//! The control calls of the kernel side.

use std::sync::{Arc, PoisonError};

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::capture::{Ask, Captures, Start};
use super::drops::Wanted;
use super::parts::Running;
use crate::admin::{Api, ApiError};
use crate::kernel::{AttachMode, Attachment, InterfaceConfig, Kernel};

/// Most interfaces that one call attaches to.
const MOST_INTERFACES: usize = crate::config::kernel::MAX_INTERFACES;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    interfaces: Vec<String>,
    #[serde(default)]
    mode: AttachMode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detach {
    interfaces: Vec<String>,
}

fn of(running: &Running) -> Result<&Arc<Kernel>, ApiError> {
    let none = || ApiError::missing("the kernel side is not in use: set [kernel] interfaces");
    running.kernel.as_ref().ok_or_else(none)
}

/// Adds the calls.
pub fn calls(api: &mut Api, running: &Arc<Running>) {
    let r = Arc::clone(running);
    api.on(Method::GET, "/v1/xdp/stats", move |_| {
        let r = Arc::clone(&r);
        async move { Ok(of(&r)?.stats()) }
    });
    let r = Arc::clone(running);
    api.on(Method::GET, "/v1/xdp/status", move |_| {
        let r = Arc::clone(&r);
        async move { of(&r)?.status().map_err(ApiError::refused) }
    });
    let r = Arc::clone(running);
    api.on(Method::GET, "/v1/xdp/top", move |request| {
        let r = Arc::clone(&r);
        async move {
            let count = request.query.get("n").and_then(|n| n.parse().ok()).unwrap_or(20);
            Ok(of(&r)?.top(count))
        }
    });
    let r = Arc::clone(running);
    api.on(Method::POST, "/v1/xdp/attach", move |request| {
        let r = Arc::clone(&r);
        async move { attach(&r, request.json()?) }
    });
    let r = Arc::clone(running);
    api.on(Method::POST, "/v1/xdp/detach", move |request| {
        let r = Arc::clone(&r);
        async move { detach(&r, request.json()?) }
    });
    let r = Arc::clone(running);
    api.on(Method::POST, "/v1/xdp/events", move |request| {
        let r = Arc::clone(&r);
        async move {
            of(&r)?;
            r.drops.next(&request.json::<Wanted>()?).await
        }
    });
    capture(api, running);
}

fn capture(api: &mut Api, running: &Arc<Running>) {
    let r = Arc::clone(running);
    api.on(Method::POST, "/v1/xdp/capture", move |request| {
        let r = Arc::clone(&r);
        async move { r.captures.start(of(&r)?, &request.json::<Start>()?) }
    });
    let r = Arc::clone(running);
    api.on(Method::POST, "/v1/xdp/capture/next", move |request| {
        let r = Arc::clone(&r);
        async move { r.captures.next(of(&r)?, &request.json::<Ask>()?).await }
    });
    let r = Arc::clone(running);
    api.on(Method::POST, "/v1/xdp/capture/stop", move |request| {
        let r = Arc::clone(&r);
        async move { r.captures.stop(of(&r)?, &request.json::<Ask>()?) }
    });
}

/// Attaches until the next start: what stays is in the configuration.
fn attach(running: &Running, wanted: Attach) -> Result<serde_json::Value, ApiError> {
    let kernel = of(running)?;
    let mut attached = running.attached.lock().unwrap_or_else(PoisonError::into_inner);
    if attached.len() + wanted.interfaces.len() > MOST_INTERFACES {
        return Err(ApiError::refused(format!("at most {MOST_INTERFACES} interfaces can be attached to")));
    }
    let configs: Vec<InterfaceConfig> =
        wanted.interfaces.into_iter().map(|name| InterfaceConfig { name, mode: wanted.mode }).collect();
    let new = kernel.attach(&configs).map_err(ApiError::refused)?;
    attached.retain(|old| !new.iter().any(|new| new.interface == old.interface));
    attached.extend(new.iter().cloned());
    let unnamed: Vec<&str> = new
        .iter()
        .map(|attachment| attachment.interface.as_str())
        .filter(|name| !running.config.kernel.interfaces.iter().any(|known| known == name))
        .collect();
    Ok(json!({ "attached": new, "until_restart": unnamed }))
}

fn detach(running: &Running, wanted: Detach) -> Result<serde_json::Value, ApiError> {
    let kernel = of(running)?;
    let mut attached = running.attached.lock().unwrap_or_else(PoisonError::into_inner);
    let mut detached = Vec::new();
    for name in wanted.interfaces {
        if !kernel.detach(&name).map_err(ApiError::refused)? {
            return Err(ApiError::missing(format!(
                "the program is not on {name}; `gateway xdp status` lists where it is"
            )));
        }
        attached.retain(|old: &Attachment| old.interface != name);
        detached.push(name);
    }
    let named: Vec<&String> =
        detached.iter().filter(|name| running.config.kernel.interfaces.contains(name)).collect();
    Ok(json!({ "detached": detached, "until_restart": named }))
}

/// Where captures live; none runs yet.
pub fn captures() -> Captures {
    Captures::default()
}
