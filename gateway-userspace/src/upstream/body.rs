//! The answer's body, read from its connection as the client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::connection::Connection;
use super::health::InFlight;
use super::sending::{SendError, Sending};
use crate::wire::{BodyError, Chunked, Decoded, Framing, keep_trailers};

/// A body that owns its connection and gives it back to the pool at its end.
#[derive(Debug)]
pub(super) struct ResponseBody {
    pub(super) connection: Option<Connection>,
    pub(super) framing: Remaining,
    /// The rest of the request, when the server answered before it was all sent.
    pub(super) sending: Option<Sending>,
    pub(super) in_flight: InFlight,
    pub(super) worker: usize,
    pub(super) may_reuse: bool,
    pub(super) read_timeout: Duration,
    pub(super) is_waiting: bool,
}

/// What is still to come.
#[derive(Debug)]
pub(super) enum Remaining {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Until the server closes.
    Close,
}

impl Remaining {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(n) => Self::Length(n),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::Close => Self::Close,
        }
    }
}

impl ResponseBody {
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.may_reuse
            && self.sending.is_none()
            && connection.inbound.is_empty()
        {
            self.in_flight.0.pool.put(self.worker, connection);
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        if let Some(sending) = &mut self.sending {
            let mut progress = false;
            match sending.poll(connection, cx, &mut progress) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.sending = None,
                Poll::Ready(Err(SendError::Body(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Ready(Err(SendError::Server)) => {
                    self.sending = None;
                    self.may_reuse = false;
                }
            }
        }
        loop {
            match &mut self.framing {
                Remaining::Length(0) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Remaining::Length(left) if !connection.inbound.is_empty() => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(connection.inbound.len());
                    *left -= n as u64;
                    let data = connection.inbound.split_to(n).freeze();
                    if *left == 0 {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Remaining::Chunked(chunks) => {
                    match chunks.decode(&mut connection.inbound).map_err(|_| BodyError::Malformed)? {
                        Decoded::Need => {}
                        Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        Decoded::End(mut trailers) => {
                            keep_trailers(&mut trailers);
                            self.finish();
                            let trailers = (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)));
                            self.framing = Remaining::Length(0);
                            return Poll::Ready(trailers);
                        }
                    }
                }
                Remaining::Close if !connection.inbound.is_empty() => {
                    let data = connection.inbound.split().freeze();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Remaining::Length(_) | Remaining::Close => {}
            }
            match ready!(connection.poll_fill(cx, true)) {
                Ok(0) if matches!(self.framing, Remaining::Close) => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyError::Closed))),
                Ok(_) => {}
            }
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = this.poll_data(cx);
        match &polled {
            Poll::Pending => {
                let Some(connection) = &mut this.connection else { return polled };
                if !this.is_waiting {
                    this.is_waiting = true;
                    connection.set_deadline(this.read_timeout);
                }
                if connection.poll_deadline(cx).is_ready() {
                    this.connection = None;
                    return Poll::Ready(Some(Err(BodyError::Slow)));
                }
            }
            Poll::Ready(Some(Err(_))) => this.connection = None,
            Poll::Ready(_) => this.is_waiting = false,
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.framing, Remaining::Length(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Remaining::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}
