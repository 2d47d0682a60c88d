//! The loop of one connection: read a head, have it answered, write the answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Method, Version};
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use super::body::RequestBody;
use super::io::{Io, SharedIo, lock};
use super::linger::{drain_body, is_hopeless, linger};
use super::tunnel::Tunnel;
use super::write::{Outcome, Writer};
use super::{Context, End};
use crate::config::edge::Http;
use crate::http::redirect;
use crate::http::server::{Phase, past};
use crate::listen::Stream;
use crate::pipeline::{Finishing, Incoming, Site};
use crate::respond::{Afterwards, Denial, Reply};
use crate::wire::{Body, Framing, HeadLimits, Pace, RequestHead, Scan, keeps_alive, parse_request};

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection between two requests stays open once draining has begun.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// Bytes that may arrive ahead while a request is answered.
const MAX_AHEAD: usize = 64 << 10;

/// How long a connection counts as busy after an answer: whoever asks again by then finds everything at hand, and only
/// then is the memory of answering given back.
const BUSY: Duration = Duration::from_secs(1);

/// How reading a head ended.
enum Head {
    Request(Request),
    Refused(Denial),
    Http2,
    /// Nothing came while the connection was busy.
    Quiet,
    Closed,
}

/// A head that could be read.
struct Request {
    head: Box<RequestHead>,
    framing: Framing,
    wants_continue: bool,
}

pub(in crate::http) async fn serve(stream: Stream, context: Context) -> End {
    let mut connection = Connection::new(stream, context);
    loop {
        let site = connection.context.shared.pipeline.site();
        lock(&connection.io).rest();
        let next = match connection.read_head(&site.http, false).await {
            Head::Closed | Head::Quiet => Next::Close,
            Head::Http2 => return connection.into_http2(),
            Head::Refused(denial) => Next::Refuse(denial),
            // On the heap while requests follow each other: see `http::connection`. It is large, and moved there: once
            // for all of them.
            Head::Request(request) => Box::pin(connection.busy(request, site)).await,
        };
        match next {
            Next::Read => {}
            Next::Refuse(denial) => {
                Box::pin(connection.refuse(&denial)).await;
                return End::Closed;
            }
            Next::Close => {
                say_goodbye(&connection.io).await;
                return End::Closed;
            }
            Next::Cut => return End::Closed,
            Next::Linger => {
                linger(&connection.io).await;
                return End::Closed;
            }
            Next::Tunnel(tunnel) => return connection.into_tunnel(tunnel),
        }
    }
}

/// What follows an answer.
enum Next {
    Read,
    Refuse(Denial),
    Close,
    /// The client is to see that something is missing.
    Cut,
    Linger,
    Tunnel(Box<(Reply, Finishing)>),
}

struct Connection {
    io: SharedIo,
    writer: Writer,
    context: Context,
    requests: u64,
}

impl Connection {
    fn new(stream: Stream, context: Context) -> Self {
        let site = context.shared.pipeline.site();
        let io = Arc::new(Mutex::new(Io::new(stream)));
        Self {
            io,
            writer: Writer::new(Pace::new(site.http.send_timeout, site.http.min_rate)),
            context,
            requests: 0,
        }
    }

    /// Answers a request, and those that follow while the connection is busy.
    async fn busy(&mut self, mut request: Request, mut site: Arc<Site>) -> Next {
        loop {
            match self.answer(request, &site.http).await {
                Next::Read => {}
                other => return other,
            }
            site = self.context.shared.pipeline.site();
            match self.read_head(&site.http, true).await {
                Head::Request(next) => request = next,
                Head::Quiet => return Next::Read,
                Head::Refused(denial) => return Next::Refuse(denial),
                // HTTP/2 begins with a connection's first bytes or not at all.
                Head::Closed | Head::Http2 => return Next::Close,
            }
        }
    }

    /// Waits for a request and reads its head. While the connection `is_busy` it is waited for [`BUSY`] at most, and for
    /// the rest of the idle time in the next call.
    async fn read_head(&mut self, http: &Http, is_busy: bool) -> Head {
        let limits = HeadLimits {
            bytes: http.max_header_bytes as usize,
            fields: http.max_headers as usize,
            target: http.max_uri_bytes as usize,
        };
        let mut scan = Scan::default();
        let mut skipped = false;
        let mut has_begun = false;
        let mut is_timed = false;
        let requests = self.requests;
        let phase = &mut self.context.phase;
        let is_plain = self.context.peer.tls.is_none();
        let mut drain = pin!(past(phase, Phase::Run));
        let mut is_draining = false;
        let wait = match (requests, is_busy) {
            // The first request of a connection is awaited like the rest of a head: the client has just connected.
            (0, _) => http.header_timeout,
            (_, true) => http.idle_timeout.min(BUSY),
            (_, false) => http.idle_timeout.saturating_sub(BUSY),
        };
        lock(&self.io).set_deadline(Instant::now() + wait);
        let io = &self.io;
        poll_fn(move |cx| {
            let mut io = lock(io);
            loop {
                if !skipped && io.inbound.starts_with(b"\r\n") {
                    // One empty line before a request line is tolerated (RFC 9112, section 2.2).
                    let _ = io.inbound.split_to(2);
                    skipped = true;
                }
                if !io.inbound.is_empty() {
                    has_begun = true;
                    if is_plain && requests == 0 && io.inbound.starts_with(PREFACE) {
                        return Poll::Ready(Head::Http2);
                    }
                    match scan.advance(&io.inbound, &limits) {
                        Err(e) => return Poll::Ready(Head::Refused(too_long(&io, &scan, &limits, e))),
                        Ok(Some(len)) => {
                            let bytes = io.inbound.split_to(len).freeze();
                            return Poll::Ready(read(&bytes, &scan, &limits));
                        }
                        // Part of the preface could be taken for a request of its own: wait for all of it.
                        Ok(None) => {}
                    }
                } else if !is_draining && drain.as_mut().poll(cx).is_ready() {
                    is_draining = true;
                    if requests > 0 {
                        // A request may be on its way: it would be lost with the connection. It is answered, and the
                        // answer says that the connection closes.
                        io.set_deadline(Instant::now() + DRAIN_GRACE);
                    }
                }
                match io.poll_fill_head(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Head::Closed),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        // Most heads come whole: only one that doesn't pays for moving the timer forward.
                        if has_begun && !is_timed {
                            is_timed = true;
                            io.set_deadline(Instant::now() + http.header_timeout);
                        }
                        return io.poll_deadline(cx).map(|()| {
                            if has_begun {
                                Head::Refused(Denial::SlowHead)
                            } else if is_busy && !is_draining {
                                Head::Quiet
                            } else {
                                Head::Closed
                            }
                        });
                    }
                }
            }
        })
        .await
    }

    async fn answer(&mut self, request: Request, http: &Http) -> Next {
        self.requests += 1;
        let Request { head, framing, wants_continue } = request;
        let RequestHead { method, target, version, headers } = *head;
        let keeps = keeps_alive(version, &headers) && self.requests < http.requests_per_connection;
        lock(&self.io).begin_body(framing, wants_continue);
        let has_body = !lock(&self.io).is_body_done();
        let body = if has_body { Body::stream(RequestBody(Arc::clone(&self.io))) } else { Body::Empty };
        let is_upgrade = headers.contains_key(http::header::UPGRADE);
        let sent =
            Sent { is_head: method == Method::HEAD, version, reads_trailers: reads_trailers(&headers) };
        let incoming = Incoming { method, target, authority: None, version, headers, body };
        let Context { shared, worker, peer, redirect, .. } = &self.context;
        if is_upgrade && !lock(&self.io).inbound.is_empty() {
            // Bytes behind an upgrade that nobody has accepted: as a request or as the new protocol?
            let early = Denial::Request("bytes_before_upgrade");
            let (reply, finishing) = shared.pipeline.refuse(worker, peer, &early);
            return self.send(reply, finishing, sent, false).await;
        }
        if shared.overload.sheds() || self.context.is_shed {
            let (reply, finishing) = shared.pipeline.refuse(worker, peer, &Denial::Overload);
            return self.send(reply, finishing, sent, false).await;
        }
        if let Some(port) = *redirect
            && !shared.pipeline.has_proof(&incoming.target)
        {
            let (reply, finishing) =
                shared.pipeline.refuse(worker, peer, &redirect::to_https(&incoming, port));
            return self.send(reply, finishing, sent, keeps).await;
        }
        let answered = {
            // Pinned where it is made: it is large, and nobody moves it.
            let handled = pin!(shared.pipeline.handle(worker, peer, incoming));
            until_client_leaves(&self.io, handled).await
        };
        let Some((reply, finishing)) = answered else { return Next::Cut };
        self.send(reply, finishing, sent, keeps).await
    }

    async fn send(&mut self, mut reply: Reply, mut finishing: Finishing, sent: Sent, keeps: bool) -> Next {
        if reply.connection == Afterwards::Drop {
            return Next::Cut;
        }
        if reply.upgraded.is_some() {
            self.writer.put_switch(&reply);
            // Bytes before the switch are of no protocol: the connection is closed instead.
            if lock(&self.io).inbound.is_empty() && self.writer.flush(&self.io).await == Outcome::Sent {
                return Next::Tunnel(Box::new((reply, finishing)));
            }
            return Next::Close;
        }
        if let Some(alt_svc) = &self.context.alt_svc {
            reply.headers.entry(http::header::ALT_SVC).or_insert_with(|| alt_svc.clone());
        }
        let is_draining = *self.context.phase.borrow() != Phase::Run;
        let can_go_on = {
            let io = lock(&self.io);
            // A client that still waits for 100 Continue may or may not send its body now: no telling.
            io.is_body_done() || !(io.owes_continue() || is_hopeless(&io.body))
        };
        let keeps = keeps && !is_draining && reply.connection == Afterwards::Keep && can_go_on;
        let coding = self.writer.put_head(&reply, sent, keeps);
        let body = std::mem::take(&mut reply.body);
        let body = if Writer::has_body(&reply, sent) { body } else { Body::Empty };
        drop(reply);
        let outcome = self.writer.write(&self.io, body, coding, sent.reads_trailers, &mut finishing).await;
        if outcome != Outcome::Failed && outcome != Outcome::Cut {
            finishing.complete();
        }
        drop(finishing);
        match outcome {
            Outcome::Failed | Outcome::Cut => Next::Cut,
            Outcome::SentUntilClose => self.close_or_linger(),
            Outcome::Sent if !keeps => self.close_or_linger(),
            Outcome::Sent => {
                if lock(&self.io).is_body_done() || drain_body(&self.io).await {
                    Next::Read
                } else {
                    Next::Linger
                }
            }
        }
    }

    /// Lingering matters only when the client may still be sending.
    fn close_or_linger(&self) -> Next {
        let io = lock(&self.io);
        if io.is_body_done() && io.inbound.is_empty() { Next::Close } else { Next::Linger }
    }

    async fn refuse(&mut self, denial: &Denial) {
        let Context { shared, worker, peer, .. } = &self.context;
        let (reply, mut finishing) = shared.pipeline.refuse(worker, peer, denial);
        let coding = self.writer.put_head(
            &reply,
            Sent { is_head: false, version: Version::HTTP_11, reads_trailers: false },
            false,
        );
        if self.writer.write(&self.io, reply.body, coding, false, &mut finishing).await == Outcome::Sent {
            finishing.complete();
        }
        drop(finishing);
        linger(&self.io).await;
    }

    fn into_http2(self) -> End {
        match Arc::try_unwrap(self.io) {
            Ok(io) => {
                let io = io.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
                let read: Bytes = io.inbound.freeze();
                End::Http2(Box::new(io.stream), read, self.context)
            }
            // Not reachable: no body was made yet that could hold the stream.
            Err(_) => End::Closed,
        }
    }

    fn into_tunnel(self, switched: Box<(Reply, Finishing)>) -> End {
        let (reply, finishing) = *switched;
        let (Ok(io), Some(upgraded)) = (Arc::try_unwrap(self.io), reply.upgraded) else { return End::Closed };
        let io = io.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        End::Upgraded(Box::new(Tunnel { client: io.stream, upgraded, finishing, phase: self.context.phase }))
    }
}

/// What of the request decides how the response is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// The client said `TE: trailers`.
    pub(super) reads_trailers: bool,
}

/// Whether `TE` holds `trailers` (RFC 9110, section 6.5.1).
fn reads_trailers(headers: &http::HeaderMap) -> bool {
    headers.get_all(http::header::TE).iter().any(|value| {
        value.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// TLS says that nothing follows (close_notify): without it the client can't tell an end from a cut. It is not
/// waited for.
async fn say_goodbye(io: &SharedIo) {
    poll_fn(|cx| {
        let mut io = lock(io);
        if matches!(io.stream, Stream::Tls(_)) {
            let _ = Pin::new(&mut io.stream).poll_shutdown(cx);
        }
        Poll::Ready(())
    })
    .await;
}

/// Which limit a head broke: a first line that doesn't end is a target that is too long.
fn too_long(io: &Io, scan: &Scan, limits: &HeadLimits, error: crate::wire::HeadError) -> Denial {
    use crate::wire::HeadError;
    if error == HeadError::TooLarge && scan.in_first_line() && io.inbound.len() > limits.target {
        return Denial::Head(HeadError::TargetTooLong);
    }
    Denial::Head(error)
}

fn read(bytes: &Bytes, scan: &Scan, limits: &HeadLimits) -> Head {
    let head = match parse_request(bytes, scan, limits) {
        Ok(head) => head,
        Err(e) => return Head::Refused(Denial::Head(e)),
    };
    match Framing::of_request(head.version, &head.headers) {
        Err(e) => Head::Refused(Denial::Framing(e)),
        Ok(framing) => {
            let expects =
                head.headers.get(EXPECT).is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
            let wants_continue = expects && head.version == Version::HTTP_11;
            Head::Request(Request { head: Box::new(head), framing, wants_continue })
        }
    }
}

/// The answer, unless the client closes first. Reading ahead stops at a bound, so that a client that
/// pipelines without end waits.
async fn until_client_leaves<T>(io: &SharedIo, mut answer: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        let mut io = lock(io);
        // While the body is being read, that reading sees the end.
        while io.is_body_done() && io.inbound.len() < MAX_AHEAD {
            match io.poll_fill_head(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
            }
        }
        Poll::Pending
    })
    .await
}
