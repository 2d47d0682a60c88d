//! One request and its answer over one connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONNECTION;

use super::body::{Remaining, ResponseBody};
use super::connection::Connection;
use super::health::InFlight;
use super::sending::{SendError, Sending};
use super::{Upgraded, UpstreamError, UpstreamRequest, UpstreamResponse};
use crate::config::edge;
use crate::wire::{Body, Framing, ResponseHead, is_hop_by_hop, keeps_alive, strip_hop_by_hop};

/// What stays of a failed exchange.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: UpstreamError,
    /// Whether the server may have seen nothing of the request: a connection from the pool that was closed
    /// before it said anything.
    pub(super) is_stale: bool,
}

/// Sends `request` with `body` and reads the head of the answer.
pub(super) async fn exchange(
    mut connection: Connection,
    request: &UpstreamRequest,
    body: Body,
    config: &edge::Upstream,
    worker: usize,
    in_flight: InFlight,
) -> Result<UpstreamResponse, Failed> {
    let mut sending = Some(Sending::start(&mut connection, request, body));
    let timeout = request.patience.response.unwrap_or(config.response_timeout);
    let mut is_timed = false;
    let head = poll_fn(|cx| {
        if let Some(rest) = &mut sending {
            let mut progress = false;
            match rest.poll(&mut connection, cx, &mut progress) {
                Poll::Pending => {}
                // The server may have answered before it closed: read on.
                Poll::Ready(Ok(()) | Err(SendError::Server)) => sending = None,
                Poll::Ready(Err(SendError::Body(e))) => {
                    return Poll::Ready(Err(UpstreamError::RequestBody(e)));
                }
            }
            if progress || !is_timed {
                is_timed = true;
                connection.set_deadline(timeout);
            }
        }
        if let Poll::Ready(head) = connection.poll_head(cx) {
            return Poll::Ready(head);
        }
        connection.poll_deadline(cx).map(|()| Err(UpstreamError::ResponseTimeout))
    })
    .await;
    let head = head.map_err(|error| {
        let is_stale = connection.is_reused && error == UpstreamError::Closed && !connection.has_answered();
        Failed { error, is_stale }
    })?;
    answer(connection, request, head, sending, config, worker, in_flight)
        .map_err(|error| Failed { error, is_stale: false })
}

/// Turns the head into an answer whose body owns the connection.
fn answer(
    mut connection: Connection,
    request: &UpstreamRequest,
    head: ResponseHead,
    sending: Option<Sending>,
    config: &edge::Upstream,
    worker: usize,
    in_flight: InFlight,
) -> Result<UpstreamResponse, UpstreamError> {
    let ResponseHead { status, version, mut headers } = head;
    let server = Arc::clone(&in_flight.0.server.address);
    if status.as_u16() == 101 {
        if request.upgrade.is_none() || sending.is_some() {
            return Err(UpstreamError::Unexpected);
        }
        let read: Bytes = connection.inbound.split().freeze();
        let upgraded = Upgraded { io: connection.io, read, _in_flight: in_flight };
        return Ok(UpstreamResponse { status, headers, body: Body::Empty, upgraded: Some(upgraded), server });
    }
    let framing = Framing::of_response(&request.method, status, version, &headers)?;
    let may_reuse = sending.is_none() && framing != Framing::Close && keeps_alive(version, &headers);
    // A server's Connection may name what it likes: it is removed, and so is what it names.
    if headers.keys().any(|name| is_hop_by_hop(name.as_str())) && strip_hop_by_hop(&mut headers).is_err() {
        headers.remove(CONNECTION);
    }
    // A small body is often here already: then the connection is free before the client is answered.
    let whole = match framing {
        Framing::None => Some(0),
        Framing::Length(n) => usize::try_from(n).ok().filter(|n| *n <= connection.inbound.len()),
        Framing::Chunked | Framing::Close => None,
    };
    let body = match whole {
        Some(len) if sending.is_none() => {
            let bytes = connection.inbound.split_to(len).freeze();
            if may_reuse && connection.inbound.is_empty() {
                in_flight.0.pool.put(worker, connection);
            }
            if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
        }
        _ => Body::stream(ResponseBody {
            connection: Some(connection),
            framing: Remaining::new(framing),
            sending,
            in_flight,
            worker,
            may_reuse,
            read_timeout: config.read_timeout,
            is_waiting: false,
        }),
    };
    Ok(UpstreamResponse { status, headers, body, upgraded: None, server })
}
