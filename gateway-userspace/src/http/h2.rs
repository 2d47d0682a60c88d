//! HTTP/2, the client's side (RFC 9113), by hyper.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming as HyperBody;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{Activity, Open, Verdict};
use super::frames::Guarded;
use super::h1::Context;
use super::server::{Phase, past};
use super::{redirect, websocket};
use crate::config::edge::Http;
use crate::listen::Stream;
use crate::pipeline::{Finishing, Incoming};
use crate::respond::{Afterwards, Denial, Reply};
use crate::wire::{Body, BodyError, HeadError, keep_trailers};

/// Flow-control window of a stream, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// Flow-control window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of responses that wait in one stream.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that the client reset and that are not yet accepted (rapid reset).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that we reset for the client's errors, before the connection is closed.
const MAX_LOCAL_RESETS: usize = 1024;

pub(super) async fn serve(stream: Stream, read: Bytes, context: Context, http: &Http) {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(http.h2_streams as u32)
        .max_header_list_size(http.max_header_bytes as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        // Pings find out whether a silent client is still there.
        .keep_alive_interval(http.idle_timeout)
        .keep_alive_timeout(http.header_timeout)
        .auto_date_header(true)
        .enable_connect_protocol();
    let mut phase = context.phase.clone();
    let shared = Arc::clone(&context.shared);
    let activity = Arc::new(Activity::new(http));
    let seen = Arc::clone(&activity);
    let context = Arc::new(context);
    let limits = Limits { headers: http.max_headers as usize, target: http.max_uri_bytes as usize };
    let service =
        hyper::service::service_fn(move |request| answer(Arc::clone(&context), request, limits, seen.open()));
    let io = TokioIo::new(Guarded::new(Prefixed { prefix: read, stream }));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut ticks = tokio::time::interval(activity.tick());
    let mut is_leaving = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = past(&mut phase, Phase::Run), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => match activity.judge() {
                Verdict::Fine => {}
                Verdict::Idle if is_leaving => return,
                Verdict::Idle => {
                    is_leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::Stalled => {
                    shared.numbers.h2_stalled();
                    return;
                }
            },
        }
    };
    if let Err(error) = ended {
        shared.numbers.h2_broken();
        tracing::debug!("an HTTP/2 connection ended: {error}");
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    headers: usize,
    target: usize,
}

async fn answer(
    context: Arc<Context>,
    request: Request<HyperBody>,
    limits: Limits,
    open: Open,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let Context { shared, worker, peer, redirect, phase, alt_svc, is_shed } = &*context;
    let handshake = websocket::begin(&mut parts, worker);
    let is_head = parts.method == http::Method::HEAD;
    let target = parts
        .uri
        .path_and_query()
        .map_or(Bytes::from_static(b"*"), |p| Bytes::copy_from_slice(p.as_str().as_bytes()));
    let too_many = parts.headers.len() > limits.headers;
    let too_long = target.len() > limits.target;
    let length = parts.headers.get(http::header::CONTENT_LENGTH).cloned();
    let body = if handshake.is_some() || http_body::Body::is_end_stream(&body) {
        Body::Empty
    } else {
        Body::stream(RequestBody::new(body, length.as_ref()))
    };
    let incoming = Incoming {
        method: parts.method,
        target,
        authority: parts.uri.authority().map(|a| Bytes::copy_from_slice(a.as_str().as_bytes())),
        version: Version::HTTP_2,
        headers: parts.headers,
        body,
    };
    let (reply, finishing) = if shared.overload.sheds() || *is_shed {
        shared.pipeline.refuse(worker, peer, &Denial::Overload)
    } else if too_many {
        shared.pipeline.refuse(worker, peer, &Denial::Head(HeadError::TooMany))
    } else if too_long {
        shared.pipeline.refuse(worker, peer, &Denial::Head(HeadError::TargetTooLong))
    } else if let Some(port) = redirect.filter(|_| !shared.pipeline.has_proof(&incoming.target)) {
        shared.pipeline.refuse(worker, peer, &redirect::to_https(&incoming, port))
    } else {
        shared.pipeline.handle(worker, peer, incoming).await
    };
    let (mut reply, finishing) = match handshake {
        None => (reply, Some(finishing)),
        Some(handshake) => handshake.end(reply, finishing, phase.clone(), open.clone()),
    };
    if let Some(alt_svc) = alt_svc {
        reply.headers.entry(http::header::ALT_SVC).or_insert_with(|| alt_svc.clone());
    }
    Ok(response(reply, finishing, open, is_head))
}

fn response(
    reply: Reply,
    mut finishing: Option<Finishing>,
    open: Open,
    is_head: bool,
) -> Response<ResponseBody> {
    open.waits_for_server(false);
    let Reply { status, mut headers, body, connection, .. } = reply;
    let body = if is_head || connection == Afterwards::Drop { Body::Empty } else { body };
    if !is_head && status != http::StatusCode::NOT_MODIFIED {
        headers.remove(http::header::CONTENT_LENGTH);
    }
    remove_h1_fields(&mut headers);
    if body.is_end_stream()
        && let Some(finishing) = &mut finishing
    {
        finishing.complete();
    }
    let mut response = Response::new(ResponseBody { body, finishing, open });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Fields that HTTP/2 forbids (RFC 9113, section 8.2.2).
pub(super) fn remove_h1_fields(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
}

/// A request's body with its length, as far as that is told.
struct RequestBody {
    body: HyperBody,
    left: Option<u64>,
}

impl RequestBody {
    fn new(body: HyperBody, length: Option<&http::HeaderValue>) -> Self {
        let left = length.and_then(|l| l.to_str().ok()).and_then(|l| l.parse().ok());
        Self { body, left }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            // h2 has checked the length and the framing; what is left is a reset or a broken connection.
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(BodyError::Closed))),
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    keep_trailers(trailers);
                }
                if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A response's body that counts what goes out and ends the request when it is dropped.
struct ResponseBody {
    body: Body,
    /// None where the request goes on in a tunnel.
    finishing: Option<Finishing>,
    open: Open,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            // Waiting for the server is no stall of the client's.
            Poll::Pending => this.open.waits_for_server(true),
            Poll::Ready(_) => this.open.moved(),
        }
        let Some(finishing) = &mut this.finishing else { return polled };
        match &polled {
            Poll::Ready(None) => finishing.complete(),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    finishing.sent(data.len() as u64);
                }
                if this.body.is_end_stream() {
                    finishing.complete();
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream of which something was read already.
struct Prefixed {
    prefix: Bytes,
    stream: Stream,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
