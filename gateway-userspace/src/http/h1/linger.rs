//! What a client still sends when its answer is out: read and thrown away, within bounds, so that the answer is
//! read and the connection can carry the next request.
//!
//! A server may answer before it has read a body (a refusal, or a service that doesn't want it). Closing then
//! would reset the connection, and the reset could overtake the answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use super::io::{Reading, SharedIo, lock};

/// Most bytes that are read for nothing.
pub(super) const MAX_UNWANTED: u64 = 16 << 20;
/// How long that may take in sum.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Longest pause within it.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Whether what is left of the body is known to be more than anyone reads for nothing.
pub(super) fn is_hopeless(body: &Reading) -> bool {
    matches!(body, Reading::Broken(_)) || matches!(body, Reading::Length(left) if *left > MAX_UNWANTED)
}

/// Reads what is left of a body that nobody wanted; whether the next request can be found.
pub(super) async fn drain_body(io: &SharedIo) -> bool {
    let started = Instant::now();
    let mut read = 0;
    lock(io).set_deadline(started + MAX_PAUSE);
    poll_fn(|cx| {
        let mut io = lock(io);
        loop {
            match io.poll_piece(cx) {
                Poll::Pending => return io.poll_deadline(cx).map(|()| false),
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(Some(Ok(frame))) => read += frame.data_ref().map_or(0, bytes::Bytes::len) as u64,
            }
            if read > MAX_UNWANTED || started.elapsed() > MAX_TIME {
                return Poll::Ready(false);
            }
            io.set_deadline(Instant::now() + MAX_PAUSE);
        }
    })
    .await
}

/// Says that nothing more comes, then reads until the client closes, too much has come, or the time is over.
pub(super) async fn linger(io: &SharedIo) {
    let started = Instant::now();
    let mut read = 0;
    let mut is_shut = false;
    lock(io).set_deadline(started + MAX_PAUSE);
    poll_fn(|cx| {
        let mut io = lock(io);
        loop {
            if io.poll_deadline(cx).is_ready() {
                return Poll::Ready(());
            }
            if !is_shut {
                is_shut = Pin::new(&mut io.stream).poll_shutdown(cx).is_ready();
            }
            io.inbound.clear();
            match ready!(io.poll_fill_body(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(n) => read += n as u64,
            }
            if read > MAX_UNWANTED || started.elapsed() > MAX_TIME {
                return Poll::Ready(());
            }
            io.set_deadline(Instant::now() + MAX_PAUSE);
        }
    })
    .await;
}
