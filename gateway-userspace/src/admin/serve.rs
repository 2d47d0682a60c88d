//! The two servers of the control side.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{Api, Health, Phase};
use crate::telemetry::Registry;

/// Most connections on each control listener at once; further ones wait in the socket's backlog.
pub const MAX_CONNECTIONS: usize = 64;
/// Largest body of a control call, in bytes (an import of bans); a larger one gets 413.
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// How long a peer may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait after a failed accept (descriptors ran out), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the control API until the future is dropped.
pub async fn serve_socket(listener: UnixListener, api: Arc<Api>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let api = Arc::clone(&api);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let api = Arc::clone(&api);
                        async move { Ok::<_, Infallible>(control(&api, request).await) }
                    });
                    connection(stream, service).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the future is dropped.
pub async fn serve_health(listener: TcpListener, health: Arc<Health>, registry: Arc<Registry>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (health, registry) = (Arc::clone(&health), Arc::clone(&registry));
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<Incoming>| {
                        let answer = read_only(&health, &registry, request.method(), request.uri().path());
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    connection(stream, service).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection<S, F>(stream: impl AsyncRead + AsyncWrite + Unpin, service: S)
where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future = F,
        >,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>>,
{
    // A connection's error is its peer's affair: there is nobody to tell.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn control(api: &Api, request: http::Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return answer(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": "the body is too large"}));
        }
    };
    match api.call(&head.method, head.uri.path(), head.uri.query().unwrap_or(""), body).await {
        Ok(value) => answer(StatusCode::OK, &value),
        Err(e) => answer(e.status, &json!({"error": e.message})),
    }
}

fn answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", value.to_string())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

fn read_only(health: &Health, registry: &Registry, method: &Method, path: &str) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    }
    match path {
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => match health.phase() {
            Phase::Ready => respond(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Phase::Starting => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n".to_owned()),
            Phase::Draining => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned()),
        },
        "/metrics" => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", registry.render()),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "only /healthz, /readyz and /metrics\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_pages() {
        let health = Health::default();
        let mut registry = Registry::default();
        registry.add(|out| out.write_str("gateway_up 1\n"));
        let status = |path: &str| read_only(&health, &registry, &Method::GET, path).status().as_u16();
        assert_eq!((status("/healthz"), status("/readyz"), status("/x")), (200, 503, 404));
        health.set(Phase::Ready);
        assert_eq!(status("/readyz"), 200);
        health.set(Phase::Draining);
        assert_eq!(status("/readyz"), 503);
        assert_eq!(read_only(&health, &registry, &Method::POST, "/metrics").status().as_u16(), 405);
    }
}
