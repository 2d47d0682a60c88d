//! The control calls and what they do.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::parts::Running;
use super::reload::Reloaded;
use crate::admin::{Api, ApiError};
use crate::bans::{AddBan, Decision, ListBans, OperatorError, RemoveBan, Scope};
use crate::client::IpNetwork;
use crate::limits::{Clock, Subject};

/// A wish for a reload, with where the answer goes.
pub type ReloadRequest = oneshot::Sender<Result<Reloaded, String>>;

/// Every call that the daemon answers.
pub fn api(running: Arc<Running>, reload: mpsc::Sender<ReloadRequest>) -> Api {
    let mut api = Api::default();
    let r = Arc::clone(&running);
    api.on(Method::GET, "/v1/status", move |_| {
        let r = Arc::clone(&r);
        async move { Ok(r.status()) }
    });
    api.on(Method::POST, "/v1/reload", move |_| {
        let reload = reload.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            let busy = || ApiError::refused("a reload is under way; try again when it is done");
            reload.try_send(answer).map_err(|_| busy())?;
            answered.await.map_err(|_| busy())?.map_err(ApiError::bad)
        }
    });
    bans(&mut api, &running);
    feeds(&mut api, &running);
    privacy(&mut api, &running);
    limits(&mut api, &running);
    super::why::call(&mut api, &running);
    super::xdp::calls(&mut api, &running);
    api
}

#[derive(Deserialize)]
struct OfLimits {
    subject: Vec<String>,
    limit: Option<String>,
}

fn limits(api: &mut Api, running: &Arc<Running>) {
    let l = running.limiter.clone();
    api.on(Method::GET, "/v1/limits", move |_| {
        let l = l.clone();
        async move { Ok(l.list()) }
    });
    let l = running.limiter.clone();
    api.on(Method::POST, "/v1/limits/show", move |request| {
        let l = l.clone();
        async move {
            let asked: OfLimits = request.json()?;
            let subject = Subject::parse(&asked.subject).map_err(ApiError::bad)?;
            l.show(&subject, asked.limit.as_deref(), Clock::start().now()).await.map_err(ApiError::refused)
        }
    });
    let l = running.limiter.clone();
    api.on(Method::POST, "/v1/limits/reset", move |request| {
        let l = l.clone();
        async move {
            let asked: OfLimits = request.json()?;
            let subject = Subject::parse(&asked.subject).map_err(ApiError::bad)?;
            l.reset(&subject, asked.limit.as_deref(), Clock::start().now()).await.map_err(ApiError::refused)
        }
    });
}

#[derive(Deserialize)]
struct OfNetwork {
    network: IpNetwork,
}

fn operator(e: OperatorError) -> ApiError {
    match e {
        OperatorError::NoneOn(_) => ApiError::missing(e),
        OperatorError::Stopped(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string()),
        _ => ApiError::refused(e),
    }
}

fn bans(api: &mut Api, running: &Arc<Running>) {
    let stopped = |e: crate::bans::Stopped| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string());
    let h = running.bans.clone();
    api.on(Method::POST, "/v1/bans", move |request| {
        let h = h.clone();
        async move { h.add(request.json::<AddBan>()?).await.map_err(operator) }
    });
    let h = running.bans.clone();
    let enabled = running.config.bans.enabled;
    api.on(Method::POST, "/v1/bans/list", move |request| {
        let h = h.clone();
        async move {
            let listing = h.list(request.json::<ListBans>()?).await.map_err(stopped)?;
            let mut answer = serde_json::to_value(listing).map_err(ApiError::refused)?;
            answer["enabled"] = enabled.into();
            Ok(answer)
        }
    });
    let h = running.bans.clone();
    api.on(Method::POST, "/v1/bans/remove", move |request| {
        let h = h.clone();
        async move { h.remove(request.json::<RemoveBan>()?).await.map_err(operator) }
    });
    let h = running.bans.clone();
    api.on(Method::POST, "/v1/bans/import", move |request| {
        let h = h.clone();
        async move {
            // A hundred thousand decisions are read for a tenth of a second: not on a thread that others wait for.
            let read = tokio::task::spawn_blocking(move || request.json::<Vec<Decision>>()).await;
            h.import(read.map_err(ApiError::refused)??).await.map_err(operator)
        }
    });
    let h = running.bans.clone();
    api.on(Method::GET, "/v1/bans/{}", move |request| {
        let h = h.clone();
        async move {
            if let Ok(id) = request.parameter.parse() {
                let (decision, ended) = h.show(id).await.map_err(stopped)?.ok_or_else(|| {
                    ApiError::missing(format!("there is no decision {}", request.parameter))
                })?;
                return Ok(serde_json::json!({ "decisions": [decision], "ended": ended }));
            }
            let scope: Scope = request.parameter.parse().map_err(ApiError::bad)?;
            let within = scope.network();
            let listing = h.list(ListBans { within, ..ListBans::default() }).await.map_err(stopped)?;
            let found: Vec<_> = listing.decisions.into_iter().filter(|d| d.scope == scope).collect();
            if found.is_empty() {
                return Err(ApiError::missing(format!("no decision holds on {scope}")));
            }
            Ok(serde_json::json!({ "decisions": found }))
        }
    });
    let h = running.bans.clone();
    api.on(Method::GET, "/v1/allow", move |_| {
        let h = h.clone();
        async move { h.allowed().await.map_err(stopped) }
    });
    let h = running.bans.clone();
    api.on(Method::POST, "/v1/allow", move |request| {
        let h = h.clone();
        async move { h.allow(request.json::<OfNetwork>()?.network).await.map_err(operator) }
    });
    let h = running.bans.clone();
    api.on(Method::POST, "/v1/allow/remove", move |request| {
        let h = h.clone();
        async move { h.disallow(request.json::<OfNetwork>()?.network).await.map_err(operator) }
    });
}

fn feeds(api: &mut Api, running: &Arc<Running>) {
    let none = || ApiError::missing("no list is followed: write [[bans.feeds]]");
    let r = Arc::clone(running);
    api.on(Method::GET, "/v1/feeds", move |_| {
        let r = Arc::clone(&r);
        async move { Ok(r.feeds.as_ref().map_or_else(Vec::new, |f| f.statuses())) }
    });
    let r = Arc::clone(running);
    api.on(Method::POST, "/v1/feeds/refresh", move |_| {
        let r = Arc::clone(&r);
        async move {
            let feeds = r.feeds.as_ref().ok_or_else(none)?;
            feeds.refresh();
            Ok(serde_json::json!({ "looking": feeds.statuses().len() }))
        }
    });
}

fn privacy(api: &mut Api, running: &Arc<Running>) {
    let stopped = |e: crate::bans::Stopped| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string());
    let h = running.bans.clone();
    api.on(Method::POST, "/v1/privacy/export", move |request| {
        let h = h.clone();
        async move { h.privacy_export(request.json::<OfNetwork>()?.network).await.map_err(stopped) }
    });
    let h = running.bans.clone();
    api.on(Method::POST, "/v1/privacy/erase", move |request| {
        let h = h.clone();
        async move { h.privacy_erase(request.json::<OfNetwork>()?.network).await.map_err(stopped) }
    });
}
