//! The few HTTPS requests that an order takes: one connection each, bounded in time and size.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use super::store::StoreError;
use crate::fetch::Client;

/// Longest exchange with the authority.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer of the authority, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// Speaks HTTPS with the authority, trusting the given roots.
pub(super) struct Https(Client);

impl Https {
    /// With the roots of a PEM file, or the public ones.
    pub(super) fn new(roots: Option<&Path>) -> Result<Self, StoreError> {
        let client = Client::with(roots, None)
            .map_err(|error| StoreError::Unusable { file: error.file, reason: error.reason })?;
        Ok(Self(client.within(TIMEOUT)))
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if head.uri.scheme_str() != Some("https") {
                return Err(Error::Str("an ACME authority is spoken to over https only"));
            }
            let body = body.collect().await.map_err(|e| Error::Other(e.into()))?.to_bytes();
            let url = head.uri.to_string();
            let answer = client.send(head.method, &url, &head.headers, body, MAX_ANSWER_BYTES).await;
            let answer = answer.map_err(|e| Error::Other(Box::new(e)))?;
            let mut response = Response::new(Full::new(answer.body));
            (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
            Ok(BytesResponse::from(response))
        })
    }
}
