//! The request's way out: its head, then its body as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use super::connection::Connection;
use super::{UpstreamError, UpstreamRequest};
use crate::wire::{Body, BodyError, TURN, write_chunk, write_end, write_fields};

/// A body in memory up to this size goes out in one write with the head.
const JOINED_BODY: usize = 16 << 10;

/// What is still to be sent.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    is_chunked: bool,
    /// Written of the connection's outbound buffer.
    written: usize,
    /// Data that is sent without copying it behind the outbound buffer.
    direct: Bytes,
    is_body_done: bool,
    trailers: Option<HeaderMap>,
}

/// Why sending stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum SendError {
    /// The client's body ended early.
    Body(BodyError),
    /// The server doesn't take any more; it may still answer.
    Server,
}

impl Sending {
    /// Puts the head (and a small body) into the outbound buffer.
    pub(super) fn start(connection: &mut Connection, request: &UpstreamRequest, body: Body) -> Self {
        let is_chunked = write_head(&mut connection.outbound, request, &body);
        let mut sending =
            Self { body, is_chunked, written: 0, direct: Bytes::new(), is_body_done: false, trailers: None };
        match &mut sending.body {
            Body::Empty => sending.is_body_done = true,
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                if bytes.len() <= JOINED_BODY {
                    connection.outbound.extend_from_slice(&bytes);
                } else {
                    sending.direct = bytes;
                }
                sending.is_body_done = true;
            }
            Body::Stream(_) => {}
        }
        sending
    }

    /// Ready when all is sent. `progress` is set when bytes went out.
    pub(super) fn poll(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), SendError>> {
        let mut moved = 0;
        loop {
            while self.written < connection.outbound.len() {
                let rest = &connection.outbound[self.written..];
                let n = ready!(Pin::new(&mut connection.io).poll_write(cx, rest))
                    .map_err(|_| SendError::Server)?;
                self.written += n;
                *progress = true;
            }
            connection.outbound.clear();
            self.written = 0;
            while !self.direct.is_empty() {
                let n = ready!(Pin::new(&mut connection.io).poll_write(cx, &self.direct))
                    .map_err(|_| SendError::Server)?;
                self.direct.advance(n);
                *progress = true;
            }
            if self.is_body_done {
                // TLS may hold back what was written.
                return Pin::new(&mut connection.io).poll_flush(cx).map_err(|_| SendError::Server);
            }
            if moved >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.is_body_done = true;
                    if self.is_chunked {
                        write_end(&mut connection.outbound, self.trailers.as_ref());
                    }
                }
                Some(Err(e)) => return Poll::Ready(Err(SendError::Body(e))),
                Some(Ok(frame)) => {
                    let data = match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => {
                            self.trailers = frame.into_trailers().ok();
                            continue;
                        }
                    };
                    moved += data.len();
                    if self.is_chunked {
                        write_chunk(&mut connection.outbound, &data);
                    } else {
                        self.direct = data;
                    }
                }
            }
        }
    }
}

/// Writes request line and fields; whether the body is to be chunked.
fn write_head(out: &mut Vec<u8>, request: &UpstreamRequest, body: &Body) -> bool {
    use std::io::Write as _;
    out.clear();
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&request.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, &request.headers);
    if let Some(protocol) = &request.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(protocol.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let mut is_chunked = false;
    match body.exact_len() {
        Some(0) => {
            // Methods that usually carry a body say that they don't.
            if matches!(request.method, http::Method::POST | http::Method::PUT | http::Method::PATCH) {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
        }
        Some(len) => {
            // Writing to a Vec doesn't fail.
            let _ = write!(out, "content-length: {len}\r\n");
        }
        None => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            is_chunked = true;
        }
    }
    out.extend_from_slice(b"\r\n");
    is_chunked
}

impl From<SendError> for UpstreamError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Body(e) => Self::RequestBody(e),
            SendError::Server => Self::Closed,
        }
    }
}
