//! HTTP/2 to a server, by hyper: one connection for each worker and server, its streams shared.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::health::InFlight;
use super::socket::Socket;
use super::{UpstreamError, UpstreamRequest, UpstreamResponse};
use crate::config::edge;
use crate::wire::{Body, BodyError, Pace, Paced, strip_hop_by_hop};

/// Flow-control window of a stream, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// Flow-control window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Largest header list of a response, in bytes.
const MAX_HEADER_LIST: u32 = 64 << 10;

/// The connections of one server, by worker.
#[derive(Debug)]
pub(super) struct Streams(Box<[Mutex<Option<Shared>>]>);

/// A connection and where it leads.
type Shared = (SendRequest<Body>, Option<SocketAddr>);

impl Streams {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Mutex::default()).collect())
    }

    /// The worker's connection, while it is open.
    pub(super) fn get(&self, worker: usize) -> Option<SendRequest<Body>> {
        let shard = self.0.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner);
        shard.as_ref().filter(|(s, _)| !s.is_closed()).map(|(s, _)| s.clone())
    }

    /// Lets go of connections to addresses that are not the server's any more; their streams end as they would.
    pub(super) fn leave(&self, stays: impl Fn(SocketAddr) -> bool) {
        for shard in &self.0 {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if shard.as_ref().is_some_and(|(_, peer)| peer.is_some_and(|p| !stays(p))) {
                *shard = None;
            }
        }
    }

    /// Makes a connection over `socket` the worker's.
    pub(super) async fn open(
        &self,
        worker: usize,
        socket: Socket,
        config: &edge::Upstream,
    ) -> Result<SendRequest<Body>, UpstreamError> {
        let peer = socket.peer();
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .keep_alive_interval(config.idle_timeout)
            .keep_alive_timeout(config.connect_timeout)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|_| UpstreamError::Connect)?;
        tokio::spawn(async move {
            // Its end shows in each of its streams.
            let _ = connection.await;
        });
        if let Some(shard) = self.0.get(worker) {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Some((sender.clone(), peer));
        }
        Ok(sender)
    }
}

/// Sends a request on a stream of its own and reads the head of the answer.
pub(super) async fn exchange(
    mut sender: SendRequest<Body>,
    request: &UpstreamRequest,
    body: Body,
    is_tls: bool,
    config: &edge::Upstream,
    in_flight: InFlight,
) -> Result<UpstreamResponse, UpstreamError> {
    let server = Arc::clone(&in_flight.0.server.address);
    let mut out = Request::new(Body::Empty);
    *out.version_mut() = Version::HTTP_2;
    *out.method_mut() = request.method.clone();
    *out.uri_mut() = uri(request, is_tls, &server)?;
    *out.headers_mut() = request.headers.clone();
    out.headers_mut().remove(HOST);
    if request.wants_trailers {
        out.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    let progress = Arc::new(Progress::new());
    *out.body_mut() = match body {
        Body::Stream(_) => Body::stream(Watched { body, progress: Arc::clone(&progress) }),
        whole => whole,
    };
    let answer = tokio::select! {
        answer = sender.send_request(out) => answer,
        () = progress.stalled(request.patience.response.unwrap_or(config.response_timeout)) => return Err(UpstreamError::ResponseTimeout),
    };
    let answer =
        answer.map_err(|e| if e.is_user() { UpstreamError::Unexpected } else { UpstreamError::Closed })?;
    let (parts, incoming) = answer.into_parts();
    let mut headers = parts.headers;
    if strip_hop_by_hop(&mut headers).is_err() {
        headers.remove(http::header::CONNECTION);
    }
    let body = if incoming.is_end_stream() {
        Body::Empty
    } else {
        let body = ResponseBody { incoming, _in_flight: in_flight };
        Body::stream(Paced::new(body, Pace::new(config.read_timeout, 0)))
    };
    Ok(UpstreamResponse { status: parts.status, headers, body, upgraded: None, server })
}

fn uri(request: &UpstreamRequest, is_tls: bool, server: &str) -> Result<Uri, UpstreamError> {
    let host = request.headers.get(HOST).map_or(server.as_bytes(), HeaderValue::as_bytes);
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(host).map_err(|_| UpstreamError::Unexpected)?);
    let target = PathAndQuery::from_maybe_shared(request.target.clone());
    parts.path_and_query = Some(target.map_err(|_| UpstreamError::Unexpected)?);
    Uri::from_parts(parts).map_err(|_| UpstreamError::Unexpected)
}

/// When something was last sent.
struct Progress {
    epoch: Instant,
    millis: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        Self { epoch: Instant::now(), millis: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.millis.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Ready once nothing was sent for `timeout`.
    async fn stalled(&self, timeout: Duration) {
        loop {
            let last = self.epoch + Duration::from_millis(self.millis.load(Ordering::Relaxed));
            if last.elapsed() >= timeout {
                return;
            }
            tokio::time::sleep_until(last + timeout).await;
        }
    }
}

/// A request's body that notes its progress.
struct Watched {
    body: Body,
    progress: Arc<Progress>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.progress.note();
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer's body.
struct ResponseBody {
    incoming: Incoming,
    _in_flight: InFlight,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        polled.map(|frame| frame.map(|f| f.map_err(|_| BodyError::Closed)))
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
