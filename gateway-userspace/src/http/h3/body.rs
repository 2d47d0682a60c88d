//! The body of a request, held to the length that its fields told.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::wire::BodyError;

pub(super) type Receiving = h3::server::RequestStream<h3_quinn::RecvStream, Bytes>;

/// A body as it comes.
pub(super) struct RequestBody {
    stream: Receiving,
    first: Option<Bytes>,
    left: Option<u64>,
    is_over: bool,
}

impl RequestBody {
    /// `None` when there is none: the stream ended with the head.
    pub(super) async fn begin(mut stream: Receiving, left: Option<u64>) -> Option<Self> {
        let first = poll_fn(|cx| Poll::Ready(poll_piece(&mut stream, cx))).await;
        let first = match first {
            Poll::Ready(None) => return None,
            Poll::Ready(Some(Ok(first))) => Some(first),
            // An error shows again when the body is read.
            Poll::Ready(Some(Err(_))) | Poll::Pending => None,
        };
        Some(Self { stream, first, left, is_over: false })
    }

    /// Counts a piece against the length.
    fn take(&mut self, piece: Bytes) -> Result<Frame<Bytes>, BodyError> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(piece.len() as u64).ok_or(BodyError::Malformed)?;
        }
        Ok(Frame::data(piece))
    }
}

fn poll_piece(stream: &mut Receiving, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
    match stream.poll_recv_data(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(None)) => Poll::Ready(None),
        Poll::Ready(Ok(Some(mut piece))) => Poll::Ready(Some(Ok(piece.copy_to_bytes(piece.remaining())))),
        Poll::Ready(Err(_)) => Poll::Ready(Some(Err(BodyError::Closed))),
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(this.take(first)));
        }
        match poll_piece(&mut this.stream, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(piece))) => Poll::Ready(Some(this.take(piece))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) if this.left.is_some_and(|left| left > 0) => {
                this.is_over = true;
                Poll::Ready(Some(Err(BodyError::Malformed)))
            }
            Poll::Ready(None) => match this.stream.poll_recv_trailers(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(trailers) => {
                    this.is_over = true;
                    match trailers {
                        Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                        Ok(None) => Poll::Ready(None),
                        Err(_) => Poll::Ready(Some(Err(BodyError::Closed))),
                    }
                }
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
