//! Bodies with a bound: on their bytes, or on their time.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;

use super::{Body, BodyError};

/// A body that ends in an error past a number of bytes.
#[derive(Debug)]
pub struct Capped {
    body: Body,
    left: u64,
}

impl Capped {
    /// At most `max` bytes of `body`.
    pub fn new(body: Body, max: u64) -> Self {
        Self { body, left: max }
    }
}

impl HttpBody for Capped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that ends in an error past a moment.
#[derive(Debug)]
pub struct Deadline {
    body: Body,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    /// `body` for `left` from now.
    pub fn new(body: Body, left: Duration) -> Self {
        Self { body, timer: Box::pin(tokio::time::sleep(left)) }
    }
}

impl HttpBody for Deadline {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Total)));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
