//! The body of a request, read from its connection as it is wanted.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::io::{Reading, SharedIo, lock};
use crate::wire::BodyError;

#[derive(Debug)]
pub(super) struct RequestBody(pub(super) SharedIo);

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        lock(&self.0).poll_body(cx)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).is_body_done()
    }

    fn size_hint(&self) -> SizeHint {
        match lock(&self.0).body {
            Reading::Length(left) => SizeHint::with_exact(left),
            Reading::Done => SizeHint::with_exact(0),
            Reading::Chunked(_) | Reading::Broken(_) => SizeHint::default(),
        }
    }
}
