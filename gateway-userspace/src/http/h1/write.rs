//! Writing a response.

use std::future::poll_fn;
use std::io::{IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use super::io::{Io, SharedIo, lock};
use super::serve::Sent;
use crate::pipeline::Finishing;
use crate::respond::Reply;
use crate::wire::{Body, Pace, TURN, write_end, write_fields};

/// Pieces up to this size are copied behind the head or the chunk's size; longer ones are written from where
/// they are.
const COPIED: usize = 4 << 10;
/// What is kept of the buffer between responses.
const KEPT: usize = 16 << 10;

/// How writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Whole.
    Sent,
    /// Whole, and its end is the connection's.
    SentUntilClose,
    /// The server's body broke off: the client must see that too.
    Cut,
    /// The client is gone or doesn't read.
    Failed,
}

/// Writes responses of one connection; keeps its buffer.
#[derive(Debug)]
pub(super) struct Writer {
    buffer: Vec<u8>,
    written: usize,
    direct: Bytes,
    /// What follows the direct piece: the CRLF of a chunk.
    after: &'static [u8],
    pace: Pace,
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// There is no body, or its length was said.
    Plain,
    Chunked,
    UntilClose,
}

impl Writer {
    pub(super) fn new(pace: Pace) -> Self {
        Self { buffer: Vec::new(), written: 0, direct: Bytes::new(), after: b"", pace }
    }

    /// Queues a response's head; `keeps` is whether the connection stays open.
    pub(super) fn put_head(&mut self, reply: &Reply, sent: Sent, keeps: bool) -> Coding {
        self.buffer.clear();
        self.pace.restart();
        write_head(&mut self.buffer, reply, sent, keeps)
    }

    /// Whether a body follows the head.
    pub(super) fn has_body(reply: &Reply, sent: Sent) -> bool {
        !sent.is_head && !has_no_body(reply.status)
    }

    /// Writes what is queued, then the body.
    pub(super) async fn write(
        &mut self,
        io: &SharedIo,
        mut body: Body,
        coding: Coding,
        reads_trailers: bool,
        finishing: &mut Finishing,
    ) -> Outcome {
        let mut trailers = None;
        let mut is_cut = false;
        let mut is_over = false;
        poll_fn(|cx| {
            let mut moved = 0;
            loop {
                let before = self.pending();
                if !is_over && before < COPIED && self.direct.is_empty() {
                    if moved >= TURN {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    match Pin::new(&mut body).poll_frame(cx) {
                        Poll::Pending => {
                            // What is there goes out before waiting.
                            ready!(self.poll_out(io, cx, true))?;
                            return Poll::Pending;
                        }
                        Poll::Ready(None) => {
                            is_over = true;
                            if coding == Coding::Chunked {
                                write_end(&mut self.buffer, trailers.as_ref());
                            }
                        }
                        Poll::Ready(Some(Err(_))) => {
                            is_over = true;
                            is_cut = true;
                        }
                        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                            Ok(data) => {
                                finishing.sent(data.len() as u64);
                                moved += data.len();
                                self.put(data, coding);
                            }
                            Err(frame) if reads_trailers => trailers = frame.into_trailers().ok(),
                            Err(_) => {}
                        },
                    }
                    continue;
                }
                ready!(self.poll_out(io, cx, is_over))?;
                if is_over {
                    return Poll::Ready(Ok::<(), std::io::Error>(()));
                }
            }
        })
        .await
        .map_or(Outcome::Failed, |()| match (is_cut, coding) {
            (true, _) => Outcome::Cut,
            (false, Coding::UntilClose) => Outcome::SentUntilClose,
            (false, _) => Outcome::Sent,
        })
    }

    /// Queues the head of an answer that switches protocols.
    pub(super) fn put_switch(&mut self, reply: &Reply) {
        self.buffer.clear();
        self.buffer.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        write_fields(&mut self.buffer, &reply.headers);
        if !reply.headers.contains_key(CONNECTION) {
            self.buffer.extend_from_slice(b"connection: upgrade\r\n");
        }
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Writes what is queued.
    pub(super) async fn flush(&mut self, io: &SharedIo) -> Outcome {
        let done = poll_fn(|cx| self.poll_out(io, cx, true)).await;
        if done.is_ok() { Outcome::Sent } else { Outcome::Failed }
    }

    fn pending(&self) -> usize {
        self.buffer.len() - self.written + self.direct.len()
    }

    /// Queues a piece of the body.
    fn put(&mut self, data: Bytes, coding: Coding) {
        if data.is_empty() {
            return;
        }
        if coding == Coding::Chunked {
            // Writing to a Vec doesn't fail.
            let _ = write!(self.buffer, "{:x}\r\n", data.len());
        }
        if data.len() <= COPIED {
            self.buffer.extend_from_slice(&data);
            if coding == Coding::Chunked {
                self.buffer.extend_from_slice(b"\r\n");
            }
        } else {
            self.direct = data;
            self.after = if coding == Coding::Chunked { b"\r\n" } else { b"" };
        }
    }

    /// Writes all that is queued; flushes when asked to.
    fn poll_out(&mut self, io: &SharedIo, cx: &mut Context<'_>, flush: bool) -> Poll<std::io::Result<()>> {
        let mut io = lock(io);
        loop {
            if self.pending() == 0 {
                if self.after.is_empty() {
                    break;
                }
                self.buffer.clear();
                self.written = 0;
                self.buffer.extend_from_slice(std::mem::take(&mut self.after));
            }
            let polled = self.poll_once(&mut io, cx);
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    if self.pace.is_waiting() {
                        self.pace.moved(Instant::now().into_std(), n);
                    } else {
                        self.pace.moved_at_once(n);
                    }
                    let of_buffer = n.min(self.buffer.len() - self.written);
                    self.written += of_buffer;
                    self.direct.advance(n - of_buffer);
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return self.poll_stuck(&mut io, cx),
            }
        }
        self.buffer.clear();
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        self.written = 0;
        if !flush {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut io.stream).poll_flush(cx) {
            Poll::Pending => self.poll_stuck(&mut io, cx),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn poll_once(&self, io: &mut Io, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let rest = self.buffer.get(self.written..).unwrap_or_default();
        if self.direct.is_empty() {
            return Pin::new(&mut io.stream).poll_write(cx, rest);
        }
        let slices = [IoSlice::new(rest), IoSlice::new(&self.direct)];
        let from = usize::from(rest.is_empty());
        Pin::new(&mut io.stream).poll_write_vectored(cx, &slices[from..])
    }

    /// The client doesn't read: for how long?
    fn poll_stuck(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.pace.is_waiting()
            && let Some(deadline) = self.pace.wait(Instant::now().into_std())
        {
            io.set_deadline(deadline.into());
        }
        io.poll_deadline(cx).map(|()| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

/// Writes status line and fields; how the body's end is told.
fn write_head(out: &mut Vec<u8>, reply: &Reply, sent: Sent, keeps: bool) -> Coding {
    let Reply { status, headers, body, .. } = reply;
    if *status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        // Writing to a Vec doesn't fail.
        let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or(""));
    }
    let length = headers.get(CONTENT_LENGTH);
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != CONNECTION {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    if !headers.contains_key(DATE) {
        crate::http::date::write(out);
    }
    let mut coding = Coding::Plain;
    if sent.is_head || *status == StatusCode::NOT_MODIFIED {
        // What the length would be (RFC 9110, section 8.6).
        if let Some(length) = length {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(length.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    } else if !has_no_body(*status) {
        match body.exact_len() {
            Some(len) => {
                let _ = write!(out, "content-length: {len}\r\n");
            }
            None if sent.version == Version::HTTP_11 => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                coding = Coding::Chunked;
            }
            None => coding = Coding::UntilClose,
        }
    }
    if !keeps || coding == Coding::UntilClose {
        out.extend_from_slice(b"connection: close\r\n");
    } else if sent.version == Version::HTTP_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    coding
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}
