//! A body whose sender is held to a pace.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{BodyError, Pace};

/// A body that ends in [`BodyError::Slow`] once its sender has paused for too long, or was too slow on average.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    pace: Pace,
    /// Made when the sender is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Paced<B> {
    /// `body` at `pace`.
    pub fn new(body: B, pace: Pace) -> Self {
        Self { body, pace, timer: None }
    }
}

impl<B: HttpBody<Data = Bytes, Error = BodyError> + Unpin> HttpBody for Paced<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            let bytes = frame.iter().flatten().filter_map(Frame::data_ref).map(Bytes::len).sum();
            if this.pace.is_waiting() {
                this.pace.moved(Instant::now().into_std(), bytes);
            } else {
                this.pace.moved_at_once(bytes);
            }
            return polled;
        }
        if !this.pace.is_waiting()
            && let Some(deadline) = this.pace.wait(Instant::now().into_std())
        {
            match &mut this.timer {
                Some(timer) => timer.as_mut().reset(deadline.into()),
                timer @ None => *timer = Some(Box::pin(tokio::time::sleep_until(deadline.into()))),
            }
        }
        match &mut this.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Some(Err(BodyError::Slow))),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
