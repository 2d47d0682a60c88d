//! HTTP/3 (RFC 9114): requests from QUIC streams into the same pipeline.

mod body;
mod listener;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use h3::quic::SendStream as _;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, TE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::h1::Context;
use super::h2::remove_h1_fields;
use super::server::{Phase, past};
use crate::config::edge::Http;
use crate::pipeline::{Finishing, Incoming};
use crate::respond::{Afterwards, Denial, Reply};
use crate::wire::{Body, FramingError, HeadError};
use body::RequestBody;

pub(super) use listener::{DRAIN, serve};

type Resolver = h3::server::RequestResolver<h3_quinn::Connection, Bytes>;
type Sending = h3::server::RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;

/// Serves the requests of one connection until it ends or draining does.
async fn connection(quic: quinn::Connection, context: Context, http: &Http) {
    let mut phase = context.phase.clone();
    let context = Arc::new(context);
    let mut builder = h3::server::builder();
    // Without grease: clients have missed the end of a stream that ends with a frame they don't know (aioquic 1.2).
    builder.max_field_section_size(http.max_header_bytes).send_grease(false);
    let built = builder.build(h3_quinn::Connection::new(quic.clone()));
    let Ok(Ok(mut h3)) = timeout(http.header_timeout, built).await else { return };
    let mut requests = JoinSet::new();
    let mut left = http.requests_per_connection;
    loop {
        let accepted = tokio::select! {
            accepted = h3.accept() => accepted,
            Some(_) = requests.join_next() => continue,
            () = past(&mut phase, Phase::Run) => break,
        };
        match accepted {
            Ok(Some(resolver)) => {
                let (context, http) = (Arc::clone(&context), http.clone());
                requests.spawn(async move { request(resolver, &context, &http).await });
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!("an HTTP/3 connection ended: {error}");
                return;
            }
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    // GOAWAY: what has begun is finished, nothing more is taken.
    let _ = h3.shutdown(0).await;
    let until = Instant::now() + DRAIN;
    while !requests.is_empty() {
        let step = async {
            tokio::select! {
                ended = h3.accept() => ended.is_ok(),
                _ = requests.join_next() => true,
            }
        };
        if !matches!(timeout_at(until, step).await, Ok(true)) {
            break;
        }
    }
    // The last bytes need an acknowledgement before the connection is closed under them.
    tokio::task::yield_now().await;
    quic.close(quinn::VarInt::from_u32(0x100), b"");
}

/// Reads one request, has it answered, writes the answer.
async fn request(mut resolver: Resolver, context: &Context, http: &Http) {
    let Context { shared, worker, peer, .. } = context;
    let head = poll_fn(|cx| resolver.frame_stream.poll_next(cx));
    let Ok(frame) = timeout(http.header_timeout, head).await else {
        // It goes into the log and the numbers as one of the other versions; there is nothing to write the answer to.
        drop(shared.pipeline.refuse(worker, peer, &Denial::SlowHead));
        // A stream that is only dropped would end as if it had been answered with nothing (RFC 9114, section 4.1).
        resolver.frame_stream.reset(Code::H3_REQUEST_INCOMPLETE.value());
        return;
    };
    let Ok(resolved) = resolver.accept_with_frame(frame) else { return };
    let Ok(Ok((request, stream))) = timeout(http.header_timeout, resolved.resolve()).await else { return };
    let (mut sending, receiving) = stream.split();
    let is_head = request.method() == Method::HEAD;
    let (reply, finishing) = match incoming(request, receiving, http).await {
        _ if shared.overload.sheds() => shared.pipeline.refuse(worker, peer, &Denial::Overload),
        Ok(incoming) => shared.pipeline.handle(worker, peer, incoming).await,
        Err(denial) => shared.pipeline.refuse(worker, peer, &denial),
    };
    let sent = send(&mut sending, reply, finishing, is_head, http).await;
    if let Err(code) = sent {
        sending.stop_stream(code);
    }
}

/// The request as the pipeline takes it, once what HTTP/3 asks of its form is checked.
async fn incoming(request: Request<()>, receiving: body::Receiving, http: &Http) -> Result<Incoming, Denial> {
    let (parts, ()) = request.into_parts();
    let headers = parts.headers;
    if headers.len() > http.max_headers as usize {
        return Err(Denial::Head(HeadError::TooMany));
    }
    let target = parts
        .uri
        .path_and_query()
        .map_or(Bytes::from_static(b"*"), |p| Bytes::copy_from_slice(p.as_str().as_bytes()));
    if target.len() > http.max_uri_bytes as usize {
        return Err(Denial::Head(HeadError::TargetTooLong));
    }
    let length = length(&headers)?;
    let body = match RequestBody::begin(receiving, length).await {
        None if length.is_none_or(|n| n == 0) => Body::Empty,
        None => return Err(Denial::Framing(FramingError::Length)),
        Some(body) => Body::stream(body),
    };
    Ok(Incoming {
        method: parts.method,
        target,
        authority: parts.uri.authority().map(|a| Bytes::copy_from_slice(a.as_str().as_bytes())),
        version: Version::HTTP_3,
        headers,
        body,
    })
}

/// The length that the fields tell; refuses fields of one connection (RFC 9114, section 4.2).
fn length(headers: &HeaderMap) -> Result<Option<u64>, Denial> {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        if headers.contains_key(name) {
            return Err(Denial::Request("connection_header"));
        }
    }
    if headers.get_all(TE).iter().any(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(Denial::Request("connection_header"));
    }
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
        let length =
            digits.and_then(|d| d.parse::<u64>().ok()).ok_or(Denial::Framing(FramingError::Length))?;
        if found.replace(length).is_some() {
            return Err(Denial::Framing(FramingError::Length));
        }
    }
    Ok(found)
}

/// Writes an answer; a client that doesn't read it is waited for no longer than one of the other versions.
async fn send(
    stream: &mut Sending,
    reply: Reply,
    mut finishing: Finishing,
    is_head: bool,
    http: &Http,
) -> Result<(), Code> {
    let Reply { status, mut headers, mut body, connection, .. } = reply;
    if connection == Afterwards::Drop {
        return Err(Code::H3_REQUEST_REJECTED);
    }
    remove_h1_fields(&mut headers);
    let has_none = is_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if !has_none {
        headers.remove(CONTENT_LENGTH);
        if let Some(length) = body.exact_len() {
            headers.insert(CONTENT_LENGTH, length.into());
        }
    }
    headers.entry(DATE).or_insert_with(super::date::value);
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    let within = http.send_timeout;
    taken(within, stream.send_response(head)).await?;
    if has_none {
        body = Body::Empty;
    }
    while let Some(frame) = body.frame().await {
        // The server broke off: the client must see that.
        let frame = frame.map_err(|_| Code::H3_INTERNAL_ERROR)?;
        match frame.into_data() {
            Ok(data) => {
                let length = data.len() as u64;
                taken(within, stream.send_data(data)).await?;
                finishing.sent(length);
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    taken(within, stream.send_trailers(trailers)).await?;
                }
            }
        }
    }
    taken(within, stream.finish()).await?;
    finishing.complete();
    Ok(())
}

/// Waits until the client has taken what is sent; one that is gone or doesn't read has cancelled the request.
async fn taken<E>(within: Duration, step: impl Future<Output = Result<(), E>>) -> Result<(), Code> {
    match timeout(within, step).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Code::H3_REQUEST_CANCELLED),
    }
}
