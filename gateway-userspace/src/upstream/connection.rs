//! One connection to a server. It is read and written inside the request's own task: no task, channel or
//! wake-up stands between a request and its answer.

use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, Sleep};

use super::UpstreamError;
use super::socket::Socket;
use crate::wire::{HeadLimits, ResponseHead, Scan, parse_response};

/// What a server's head may hold.
pub(super) const HEAD_LIMITS: HeadLimits = HeadLimits { bytes: 256 << 10, fields: 512, target: 0 };
/// Interim answers (1xx) before the answer.
const MAX_INTERIM: usize = 16;
/// First read buffer, and what is kept while idle.
const SMALL_BUFFER: usize = 8 << 10;
/// Read buffer of long bodies.
const LARGE_BUFFER: usize = 64 << 10;

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) io: Socket,
    pub(super) inbound: BytesMut,
    pub(super) outbound: Vec<u8>,
    /// Whether an answer came over it before: a server may close such a connection at any time.
    pub(super) is_reused: bool,
    /// The server's address.
    pub(super) peer: Option<SocketAddr>,
    timer: Pin<Box<Sleep>>,
    scan: Scan,
    interim: usize,
}

impl Connection {
    pub(super) fn new(io: Socket) -> Self {
        Self {
            peer: io.peer(),
            io,
            inbound: BytesMut::with_capacity(SMALL_BUFFER),
            outbound: Vec::with_capacity(1024),
            is_reused: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            scan: Scan::default(),
            interim: 0,
        }
    }

    /// Whether the server neither closed nor said anything while idle. A system call only when something
    /// happened.
    pub(super) fn is_alive(&mut self) -> bool {
        self.io.is_quiet()
    }

    /// Made ready for the next request; large buffers are given back.
    pub(super) fn rest(&mut self) {
        self.is_reused = true;
        self.scan = Scan::default();
        self.interim = 0;
        self.outbound.clear();
        if self.outbound.capacity() > SMALL_BUFFER {
            self.outbound = Vec::with_capacity(1024);
        }
        if self.inbound.capacity() > SMALL_BUFFER {
            self.inbound = BytesMut::with_capacity(SMALL_BUFFER);
        }
    }

    /// Sets the deadline that [`Connection::poll_deadline`] watches.
    pub(super) fn set_deadline(&mut self, after: Duration) {
        self.timer.as_mut().reset(Instant::now() + after);
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }

    /// Reads more into the buffer; `Ok(0)` is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, is_long: bool) -> Poll<std::io::Result<usize>> {
        let wanted = if is_long { LARGE_BUFFER } else { SMALL_BUFFER };
        if self.inbound.capacity() - self.inbound.len() < wanted / 8 {
            self.inbound.reserve(wanted);
        }
        // The future has no state of its own: making it for each poll costs nothing and loses nothing.
        pin!(self.io.read_buf(&mut self.inbound)).poll(cx)
    }

    /// Reads the head of the answer; interim answers other than 101 are passed over.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>> {
        loop {
            if let Some(len) = self.scan.advance(&self.inbound, &HEAD_LIMITS)? {
                let bytes: Bytes = self.inbound.split_to(len).freeze();
                let head = parse_response(&bytes, &self.scan)?;
                self.scan = Scan::default();
                if !head.status.is_informational() || head.status.as_u16() == 101 {
                    return Poll::Ready(Ok(head));
                }
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Poll::Ready(Err(UpstreamError::Unexpected));
                }
                continue;
            }
            match self.poll_fill(cx, false) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(UpstreamError::Closed)),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Whether any byte of the answer has come.
    pub(super) fn has_answered(&self) -> bool {
        !self.inbound.is_empty() || self.interim > 0
    }
}
