//! Bodies that were held back, sent on after inspection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::MAX_INSPECTED_BYTES;
use crate::wire::{Body, BodyError};

/// Held-back bodies up to this size are joined into one piece, so that they can be sent once more.
const JOINED: usize = 256 << 10;

/// Pieces of a body in memory, counted against the budget of all.
#[derive(Debug)]
pub(super) struct Buffered {
    pieces: VecDeque<Bytes>,
    len: usize,
    trailers: Option<Frame<Bytes>>,
    budget: Arc<AtomicU64>,
}

impl Buffered {
    pub(super) fn new(budget: Arc<AtomicU64>) -> Self {
        Self { pieces: VecDeque::new(), len: 0, trailers: None, budget }
    }

    /// Keeps a piece; false when the budget of all bodies is spent.
    #[must_use]
    pub(super) fn push(&mut self, piece: Bytes) -> bool {
        let len = piece.len() as u64;
        self.len += piece.len();
        self.pieces.push_back(piece);
        self.budget.fetch_add(len, Ordering::Relaxed) + len <= MAX_INSPECTED_BYTES
    }

    pub(super) fn set_trailers(&mut self, trailers: Frame<Bytes>) {
        self.trailers = Some(trailers);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.len as u64, Ordering::Relaxed);
    }
}

/// What was held back, then the rest as it comes.
#[derive(Debug)]
pub struct Replay {
    buffered: Buffered,
    rest: Body,
}

impl Replay {
    /// A body in memory where it is whole and small, else a replay.
    pub(super) fn join(mut buffered: Buffered, rest: Body) -> Body {
        let whole = matches!(rest, Body::Empty) && buffered.trailers.is_none();
        if whole && buffered.pieces.len() <= 1 {
            return buffered.pieces.pop_front().map_or(Body::Empty, Body::Full);
        }
        if whole && buffered.len <= JOINED {
            let mut joined = BytesMut::with_capacity(buffered.len);
            for piece in &buffered.pieces {
                joined.extend_from_slice(piece);
            }
            return Body::Full(joined.freeze());
        }
        Body::stream(Self { buffered, rest })
    }
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.buffered.pieces.pop_front() {
            let len = piece.len();
            self.buffered.len -= len;
            self.buffered.budget.fetch_sub(len as u64, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(trailers) = self.buffered.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.exact_len() {
            Some(rest) => SizeHint::with_exact(self.buffered.len as u64 + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn check(pieces: &[usize], rest: usize) {
        let budget = Arc::new(AtomicU64::new(0));
        let mut buffered = Buffered::new(Arc::clone(&budget));
        for len in pieces {
            assert!(buffered.push(Bytes::from(vec![b'a'; *len])));
        }
        let total = (pieces.iter().sum::<usize>() + rest) as u64;
        let rest = if rest == 0 { Body::Empty } else { Body::Full(Bytes::from(vec![b'b'; rest])) };
        let body = Replay::join(buffered, rest);
        assert_eq!(body.exact_len(), Some(total), "{pieces:?}");
        let got = body.collect().await.expect("whole").to_bytes();
        assert_eq!(got.len() as u64, total, "{pieces:?}");
        assert_eq!(budget.load(Ordering::Relaxed), 0, "{pieces:?}");
    }

    #[tokio::test]
    async fn replays_all_and_gives_the_budget_back() {
        check(&[], 0).await;
        check(&[5], 0).await;
        check(&[5, 6], 0).await;
        check(&[5, 6], 7).await;
        check(&[JOINED, 1], 0).await;
    }

    #[test]
    fn the_budget_is_a_bound() {
        let budget = Arc::new(AtomicU64::new(MAX_INSPECTED_BYTES - 3));
        let mut buffered = Buffered::new(Arc::clone(&budget));
        assert!(buffered.push(Bytes::from_static(b"abc")));
        assert!(!buffered.push(Bytes::from_static(b"d")));
        drop(buffered);
        assert_eq!(budget.load(Ordering::Relaxed), MAX_INSPECTED_BYTES - 3);
    }
}
