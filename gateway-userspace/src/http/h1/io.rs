//! A connection's stream with its buffer, shared between the task that writes the response and the body of
//! the request being read. Both live in one task: the lock is never contended.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _};
use tokio::time::{Instant, Sleep};

use crate::listen::Stream;
use crate::wire::{BodyError, Chunked, Decoded, Framing, keep_trailers};

/// The first read buffer of a connection; it is given back while the connection is idle.
const SMALL_BUFFER: usize = 4 << 10;
/// The read buffer for bodies.
const BODY_BUFFER: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Io {
    pub(super) stream: Stream,
    pub(super) inbound: BytesMut,
    pub(super) body: Reading,
    timer: Pin<Box<Sleep>>,
    /// `100 Continue` is owed before the body is read; what is left to write of it.
    owed: &'static [u8],
}

/// Where the request's body stands.
#[derive(Debug)]
pub(super) enum Reading {
    /// Read to its end (or there was none).
    Done,
    /// This many bytes are to come.
    Length(u64),
    /// Chunks are to come.
    Chunked(Chunked),
    /// It can't be read any more.
    Broken(BodyError),
}

pub(super) type SharedIo = Arc<Mutex<Io>>;

/// The stream, for the duration of one poll.
pub(super) fn lock(io: &Mutex<Io>) -> MutexGuard<'_, Io> {
    io.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Io {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            inbound: BytesMut::new(),
            body: Reading::Done,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            owed: b"",
        }
    }

    /// Gets ready for the body of a request.
    pub(super) fn begin_body(&mut self, framing: Framing, wants_continue: bool) {
        self.body = match framing {
            Framing::Length(n) if n > 0 => Reading::Length(n),
            Framing::Chunked => Reading::Chunked(Chunked::default()),
            Framing::None | Framing::Length(_) | Framing::Close => Reading::Done,
        };
        let waits = wants_continue && !matches!(self.body, Reading::Done) && self.inbound.is_empty();
        self.owed = if waits { b"HTTP/1.1 100 Continue\r\n\r\n" } else { b"" };
    }

    pub(super) fn is_body_done(&self) -> bool {
        matches!(self.body, Reading::Done)
    }

    /// Whether the client waits for `100 Continue`, and so sends nothing.
    pub(super) fn owes_continue(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn set_deadline(&mut self, at: Instant) {
        self.timer.as_mut().reset(at);
    }

    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }

    /// Reads more; `Ok(0)` is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<std::io::Result<usize>> {
        if self.inbound.capacity() - self.inbound.len() < wanted / 8 {
            self.inbound.reserve(wanted);
        }
        // The future has no state of its own: making it for each poll loses nothing.
        pin!(self.stream.read_buf(&mut self.inbound)).poll(cx)
    }

    /// As [`Io::poll_fill`], with the buffer of heads.
    pub(super) fn poll_fill_head(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.inbound.capacity() > 0 {
            return self.poll_fill(cx, SMALL_BUFFER);
        }
        // A connection that waits has no buffer: the first bytes come over the stack.
        let mut first = [std::mem::MaybeUninit::uninit(); SMALL_BUFFER];
        let mut read = tokio::io::ReadBuf::uninit(&mut first);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        self.inbound.reserve(SMALL_BUFFER.max(read.filled().len()));
        self.inbound.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Gives the buffer back when nothing is in it.
    pub(super) fn rest(&mut self) {
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
    }

    /// As [`Io::poll_fill`], with the buffer of bodies.
    pub(super) fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        self.poll_fill(cx, BODY_BUFFER)
    }

    /// The next piece of the body, or its trailers; `None` at its end.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_piece(cx);
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.body = Reading::Broken(*error);
        }
        polled
    }

    /// As [`Io::poll_body`]; after an error it may go on.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.owed.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, self.owed)) {
                Ok(n) => self.owed = self.owed.get(n..).unwrap_or_default(),
                Err(_) => return Poll::Ready(Some(Err(BodyError::Closed))),
            }
            if self.owed.is_empty()
                && matches!(Pin::new(&mut self.stream).poll_flush(cx), Poll::Ready(Err(_)))
            {
                return Poll::Ready(Some(Err(BodyError::Closed)));
            }
        }
        loop {
            match &mut self.body {
                Reading::Done => return Poll::Ready(None),
                Reading::Broken(error) => return Poll::Ready(Some(Err(*error))),
                Reading::Length(left) if !self.inbound.is_empty() => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(self.inbound.len());
                    *left -= n as u64;
                    if *left == 0 {
                        self.body = Reading::Done;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(self.inbound.split_to(n).freeze()))));
                }
                Reading::Length(_) => {}
                Reading::Chunked(chunks) => {
                    match chunks.decode(&mut self.inbound).map_err(|_| BodyError::Malformed)? {
                        Decoded::Need => {}
                        Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        Decoded::End(mut trailers) => {
                            self.body = Reading::Done;
                            keep_trailers(&mut trailers);
                            let some = !trailers.is_empty();
                            return Poll::Ready(some.then(|| Ok(Frame::trailers(trailers))));
                        }
                    }
                }
            }
            match ready!(self.poll_fill_body(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyError::Closed))),
                Ok(_) => {}
            }
        }
    }
}
