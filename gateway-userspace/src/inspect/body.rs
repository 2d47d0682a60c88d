//! Bodies that were held back, sent on after inspection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead as _, ReadBuf};

use super::MAX_INSPECTED_BYTES;
use super::spool::{Spool, Spooled};
use crate::wire::{Body, BodyError};

/// Held-back bodies up to this size are joined into one piece, so that they can be sent once more.
const JOINED: usize = 256 << 10;
/// What is read from storage at a time, in bytes.
const READ: usize = 64 << 10;

/// What all bodies under inspection share.
#[derive(Debug)]
pub(super) struct Holding {
    /// Bytes of bodies in memory.
    pub(super) memory: AtomicU64,
    /// Where the rest of a large body waits.
    pub(super) spool: Arc<Spool>,
}

/// A body held back: its beginning in memory, counted against the budget of all, the rest in storage.
#[derive(Debug)]
pub(super) struct Buffered {
    pieces: VecDeque<Bytes>,
    len: usize,
    stored: Option<Spooled>,
    trailers: Option<Frame<Bytes>>,
    holding: Arc<Holding>,
}

impl Buffered {
    pub(super) fn new(holding: Arc<Holding>) -> Self {
        Self { pieces: VecDeque::new(), len: 0, stored: None, trailers: None, holding }
    }

    /// Keeps a piece; false when memory or storage is full.
    #[must_use]
    pub(super) async fn push(&mut self, piece: Bytes) -> bool {
        if self.stored.is_none() && self.len.saturating_add(piece.len()) <= self.holding.spool.above() {
            let len = piece.len() as u64;
            self.len += piece.len();
            self.pieces.push_back(piece);
            return self.holding.memory.fetch_add(len, Ordering::Relaxed) + len <= MAX_INSPECTED_BYTES;
        }
        if self.stored.is_none() {
            self.stored = self.holding.spool.file();
        }
        match &mut self.stored {
            Some(stored) => stored.write(&piece).await,
            None => false,
        }
    }

    pub(super) fn set_trailers(&mut self, trailers: Frame<Bytes>) {
        self.trailers = Some(trailers);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.holding.memory.fetch_sub(self.len as u64, Ordering::Relaxed);
    }
}

/// What was held back, then the rest as it comes.
#[derive(Debug)]
pub struct Replay {
    buffered: Buffered,
    /// Bytes in storage that are not read yet.
    unread: u64,
    rest: Body,
}

impl Replay {
    /// A body in memory where it is whole and small, else a replay.
    ///
    /// # Errors
    /// When what is in storage can't be read.
    pub(super) async fn join(mut buffered: Buffered, rest: Body) -> std::io::Result<Body> {
        let mut unread = 0;
        if let Some(stored) = &mut buffered.stored {
            stored.rewind().await?;
            unread = stored.len();
        }
        let whole = matches!(rest, Body::Empty) && buffered.trailers.is_none() && unread == 0;
        if whole && buffered.pieces.len() <= 1 {
            return Ok(buffered.pieces.pop_front().map_or(Body::Empty, Body::Full));
        }
        if whole && buffered.len <= JOINED {
            let mut joined = BytesMut::with_capacity(buffered.len);
            for piece in &buffered.pieces {
                joined.extend_from_slice(piece);
            }
            return Ok(Body::Full(joined.freeze()));
        }
        Ok(Body::stream(Self { buffered, unread, rest }))
    }

    fn poll_stored(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame<Bytes>, BodyError>> {
        let Some(file) = self.buffered.stored.as_mut().and_then(Spooled::reader) else {
            return Poll::Ready(Err(BodyError::Closed));
        };
        let mut piece = vec![0; READ.min(usize::try_from(self.unread).unwrap_or(READ))];
        let mut buffer = ReadBuf::new(&mut piece);
        let read = match Pin::new(file).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => buffer.filled().len(),
            Poll::Ready(Err(_)) => 0,
        };
        if read == 0 {
            tracing::error!("a spooled body can't be read back");
            return Poll::Ready(Err(BodyError::Closed));
        }
        piece.truncate(read);
        self.unread -= read as u64;
        if self.unread == 0 {
            self.buffered.stored = None;
        }
        Poll::Ready(Ok(Frame::data(Bytes::from(piece))))
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
            self.buffered.holding.memory.fetch_sub(len as u64, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.unread > 0 {
            return self.poll_stored(cx).map(Some);
        }
        if let Some(trailers) = self.buffered.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.exact_len() {
            Some(rest) => SizeHint::with_exact(self.buffered.len as u64 + self.unread + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::waf;
    use http_body_util::BodyExt as _;

    fn holding(memory: u64, above: u64) -> Arc<Holding> {
        let settings = waf::Spool { folder: std::env::temp_dir(), above, ..waf::Spool::default() };
        Arc::new(Holding { memory: AtomicU64::new(memory), spool: Arc::new(Spool::new(settings)) })
    }

    async fn check(pieces: &[usize], rest: usize, above: u64, stored: u64) {
        let holding = holding(0, above);
        let mut buffered = Buffered::new(Arc::clone(&holding));
        let mut expected = Vec::new();
        for (n, len) in pieces.iter().enumerate() {
            let piece = vec![b'a' + n as u8; *len];
            expected.extend_from_slice(&piece);
            assert!(buffered.push(Bytes::from(piece)).await);
        }
        assert_eq!(holding.spool.bytes(), stored, "{pieces:?}");
        expected.extend(std::iter::repeat_n(b'z', rest));
        let rest = if rest == 0 { Body::Empty } else { Body::Full(Bytes::from(vec![b'z'; rest])) };
        let body = Replay::join(buffered, rest).await.expect("readable");
        assert_eq!(body.exact_len(), Some(expected.len() as u64), "{pieces:?}");
        let got = body.collect().await.expect("whole").to_bytes();
        assert!(got == expected, "{pieces:?}");
        assert_eq!(holding.memory.load(Ordering::Relaxed), 0, "{pieces:?}");
        assert_eq!((holding.spool.bytes(), holding.spool.files()), (0, 0), "{pieces:?}");
    }

    #[tokio::test]
    async fn replays_all_and_gives_the_budget_back() {
        const ALL: u64 = 1 << 30;
        check(&[], 0, ALL, 0).await;
        check(&[5], 0, ALL, 0).await;
        check(&[5, 6], 0, ALL, 0).await;
        check(&[5, 6], 7, ALL, 0).await;
        check(&[JOINED, 1], 0, ALL, 0).await;
        check(&[5, 6], 0, 10, 6).await;
        check(&[5, 6, 1, 300_000], 7, 10, 300_007).await;
        check(&[11], 0, 10, 11).await;
    }

    #[tokio::test]
    async fn the_budget_is_a_bound() {
        let holding = holding(MAX_INSPECTED_BYTES - 3, 100);
        let mut buffered = Buffered::new(Arc::clone(&holding));
        assert!(buffered.push(Bytes::from_static(b"abc")).await);
        assert!(!buffered.push(Bytes::from_static(b"d")).await);
        drop(buffered);
        assert_eq!(holding.memory.load(Ordering::Relaxed), MAX_INSPECTED_BYTES - 3);
    }
}
