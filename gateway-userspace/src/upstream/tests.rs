//! Sending, without a server that answers.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::Frame;
use tokio::io::AsyncReadExt as _;

use super::connection::Connection;
use super::sending::Sending;
use super::{Patience, Socket, UpstreamRequest};
use crate::wire::{Body, BodyError, TURN};

const PIECE: usize = 16 << 10;

/// Always has a piece; counts what was taken.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.fetch_add(PIECE, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PIECE])))))
    }
}

#[tokio::test]
async fn a_body_is_sent_in_turns() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("address");
    let socket = tokio::net::TcpStream::connect(address).await.expect("connected");
    let (mut server, _) = listener.accept().await.expect("accepted");
    tokio::spawn(async move {
        let mut piece = vec![0; 1 << 20];
        while server.read(&mut piece).await.is_ok_and(|n| n > 0) {}
    });
    let mut connection = Connection::new(Socket::Plain(socket));
    let request = UpstreamRequest {
        method: Method::POST,
        target: Bytes::from_static(b"/"),
        headers: HeaderMap::new(),
        upgrade: None,
        wants_trailers: false,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        patience: Patience::default(),
    };
    let taken = Arc::new(AtomicUsize::new(0));
    let body = Body::stream(Endless(Arc::clone(&taken)));
    let mut sending = Sending::start(&mut connection, &request, body);
    let (mut all, mut full_turns) = (0, 0);
    while all < 64 * TURN {
        poll_fn(|cx| {
            assert!(sending.poll(&mut connection, cx, &mut false).is_pending(), "it has no end");
            Poll::Ready(())
        })
        .await;
        let now = taken.load(Ordering::Relaxed);
        assert!(now - all <= TURN, "{} bytes at once", now - all);
        full_turns += usize::from(now - all == TURN);
        all = now;
        tokio::task::yield_now().await;
    }
    assert!(full_turns > 0, "the socket took less than that each time");
}
