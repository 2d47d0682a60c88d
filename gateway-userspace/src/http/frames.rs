//! Frames of HTTP/2 that ask for work and bring none: counted as they come in, before anything is done about them.
//!
//! Settings, pings, resets, window updates, priorities, empty pieces and continuations cost the sender nothing. A
//! client earns the right to some by requests, by data in either direction, and by time; past that the connection ends
//! with GOAWAY. The guard does this by putting a frame in the place of the one too many that the protocol forbids, so
//! that the library answers as it answers any broken peer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection preface (RFC 9113, section 3.4), in bytes.
const PREFACE: usize = 24;
/// A frame's header, in bytes.
const HEADER: usize = 9;
/// Frames without work at the start, and most that is saved.
const SAVED: u32 = 4000;
/// Earned in a second.
const A_SECOND: u32 = 20;
/// Earned by a request.
const A_REQUEST: u32 = 20;
/// Earned by a piece of a body.
const A_PIECE: u32 = 2;
/// Bytes sent to the client for one frame: its window updates.
const BYTES_SENT: u32 = 2048;
/// What a reset costs: a little more than the request earned that it takes back.
const A_RESET: u32 = 24;
/// Continuations of one header block.
const MAX_CONTINUATIONS: u32 = 16;
/// SETTINGS on a stream, which is forbidden (RFC 9113, section 6.5).
const POISON: [u8; HEADER] = [0, 0, 0, 4, 0, 0, 0, 0, 1];

/// Counts frames by their headers as the bytes go by.
#[derive(Debug)]
struct Counter {
    /// Bytes until the next header.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
    credit: u32,
    continuations: u32,
    refilled: Instant,
    sent: u32,
}

impl Counter {
    fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            have: 0,
            credit: SAVED,
            continuations: 0,
            refilled: now,
            sent: 0,
        }
    }

    /// Takes bytes as they came; where the first frame too many begins, if there is one in them.
    fn read(&mut self, bytes: &[u8], now: Instant) -> Option<usize> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let taken = (HEADER - self.have).min(rest.len());
            self.header[self.have..self.have + taken].copy_from_slice(&rest[..taken]);
            self.have += taken;
            at += taken;
            if self.have < HEADER {
                return None;
            }
            self.have = 0;
            let [a, b, c, kind, flags, ..] = self.header;
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            // A header that began in the bytes before has gone by: the next one is caught.
            if !self.allows(kind, flags, self.skip, now) && taken == HEADER {
                return Some(at - HEADER);
            }
        }
    }

    fn allows(&mut self, kind: u8, flags: u8, len: usize, now: Instant) -> bool {
        match kind {
            // HEADERS
            1 => {
                self.continuations = 0;
                self.earn(A_REQUEST);
            }
            // DATA; an empty one that doesn't end the stream brings nothing.
            0 if len > 0 || flags & 1 == 1 => self.earn(A_PIECE),
            // CONTINUATION
            9 => {
                self.continuations += 1;
                return self.continuations <= MAX_CONTINUATIONS;
            }
            _ => {
                if self.credit < A_RESET {
                    let seconds = now.saturating_duration_since(self.refilled).as_millis() / 1000;
                    if seconds > 0 {
                        self.refilled = now;
                        self.earn(A_SECOND.saturating_mul(u32::try_from(seconds).unwrap_or(u32::MAX)));
                    }
                }
                match self.credit.checked_sub(if kind == 3 { A_RESET } else { 1 }) {
                    Some(credit) => self.credit = credit,
                    None => return false,
                }
            }
        }
        true
    }

    fn sent(&mut self, bytes: usize) {
        let sent = self.sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.sent = sent % BYTES_SENT;
        self.earn(sent / BYTES_SENT);
    }

    fn earn(&mut self, frames: u32) {
        self.credit = self.credit.saturating_add(frames).min(SAVED);
    }
}

/// A client's stream with its frames counted.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    counter: Counter,
    is_over: bool,
}

impl<S> Guarded<S> {
    /// From the preface on.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, counter: Counter::new(Instant::now()), is_over: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let new = buf.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return polled;
        }
        if let Some(at) = this.counter.read(new, Instant::now()) {
            this.is_over = true;
            buf.set_filled(before + at);
            // The header that stood here was of the same length.
            buf.put_slice(&POISON);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    fn note(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &polled {
            self.counter.sent(*n);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut out = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        out.resize(HEADER + payload, 0);
        out
    }

    /// How many of `unit` are let through before one is too many, fed `step` bytes at a time.
    fn passed(unit: &[u8], step: usize) -> Option<usize> {
        let now = Instant::now();
        let mut counter = Counter::new(now);
        let bytes = [vec![b'p'; PREFACE], unit.repeat(5000)].concat();
        for (n, piece) in bytes.chunks(step).enumerate() {
            if let Some(at) = counter.read(piece, now) {
                return Some((n * step + at - PREFACE) / unit.len());
            }
        }
        None
    }

    #[test]
    fn work_earns_and_noise_costs() {
        let reset = [frame(1, 5, 20), frame(3, 0, 4)].concat();
        let some_resets = [frame(1, 5, 20).repeat(4), frame(3, 0, 4).repeat(3)].concat();
        let download = [frame(1, 5, 20), frame(8, 0, 4), frame(8, 0, 4)].concat();
        let block = [frame(1, 1, 20), frame(9, 0, 100).repeat(20)].concat();
        for (name, unit, expected) in [
            ("settings", frame(4, 0, 6), Some(4000)),
            ("pings", frame(6, 0, 8), Some(4000)),
            ("window updates", frame(8, 0, 4), Some(4000)),
            ("resets", frame(3, 0, 4), Some(166)),
            ("priorities", frame(2, 0, 5), Some(4000)),
            ("empty pieces", frame(0, 0, 0), Some(4000)),
            ("unknown frames", frame(77, 0, 3), Some(4000)),
            ("pieces", frame(0, 0, 1000), None),
            ("each request reset", reset, Some(995)),
            ("three in four reset", some_resets, None),
            ("requests", download, None),
            ("continuations", block, Some(0)),
        ] {
            for step in [100_000, 4096, 50] {
                let got = passed(&unit, step);
                // A header cut in two is caught at the next one.
                let near = match (got, expected) {
                    (Some(got), Some(expected)) => got.abs_diff(expected) <= 40,
                    (got, expected) => got == expected,
                };
                assert!(near, "{name} by {step}: {got:?}");
            }
        }
    }

    #[test]
    fn time_and_bytes_sent_earn() {
        let start = Instant::now();
        let mut counter = Counter::new(start);
        let pings = frame(6, 0, 8).repeat(4001);
        counter.skip = 0;
        assert!(counter.read(&pings, start).is_some());
        let mut counter = Counter::new(start);
        counter.skip = 0;
        assert_eq!(counter.read(&frame(6, 0, 8).repeat(4000), start), None);
        assert_eq!(counter.read(&frame(6, 0, 8).repeat(19), start + std::time::Duration::from_secs(1)), None);
        counter.sent(10 << 20);
        assert_eq!(counter.read(&frame(8, 0, 4).repeat(1000), start), None);
    }
}
