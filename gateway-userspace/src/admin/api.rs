//! The table of control calls: a method and a path to a handler.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One call: the last path segment where the path has a parameter, the query, and the JSON body.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What stood in place of `{}` in the path, percent-decoded.
    pub parameter: String,
    /// The query, decoded.
    pub query: HashMap<String, String>,
    /// The body, which should be JSON; empty where there is none.
    pub body: Bytes,
}

impl Request {
    /// The body as a type.
    ///
    /// # Errors
    /// 400 with what does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let body = if self.body.is_empty() { b"null" } else { &self.body[..] };
        serde_json::from_slice(body).map_err(|e| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the request body does not fit: {e}"))
        })
    }
}

/// Why a call was not done, as a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status of the answer.
    pub status: StatusCode,
    /// What is wrong and what to do.
    pub message: String,
}

impl ApiError {
    /// An error with a status and a sentence.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The call makes sense but is refused: 409.
    pub fn refused(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, message.to_string())
    }

    /// What was asked for is not there: 404.
    pub fn missing(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, message.to_string())
    }

    /// The call's words are off: 400.
    pub fn bad(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message.to_string())
    }
}

type Reply = Pin<Box<dyn Future<Output = Result<Value, ApiError>> + Send>>;
type Handler = Arc<dyn Fn(Request) -> Reply + Send + Sync>;

/// The calls that the daemon offers. Paths are literal but for one `{}` as the last segment.
#[derive(Default, Clone)]
pub struct Api {
    calls: Vec<(Method, &'static str, Handler)>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.calls.iter().map(|(m, p, _)| (m, p))).finish()
    }
}

impl Api {
    /// Adds a call.
    pub fn on<F, R, T>(&mut self, method: Method, path: &'static str, handler: F)
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, ApiError>> + Send + 'static,
        T: Serialize,
    {
        let handler: Handler = Arc::new(move |request| {
            let answer = handler(request);
            Box::pin(async move {
                serde_json::to_value(answer.await?)
                    .map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
            })
        });
        self.calls.push((method, path, handler));
    }

    /// Finds the call and runs it.
    pub(super) async fn call(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        body: Bytes,
    ) -> Result<Value, ApiError> {
        let mut known = false;
        for (m, pattern, handler) in &self.calls {
            let Some(parameter) = matches(pattern, path) else { continue };
            known = true;
            if m == method {
                let query = pairs(query);
                return handler(Request { parameter: percent_decode(parameter), query, body }).await;
            }
        }
        Err(if known {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for {path}"))
        } else {
            ApiError::missing(format!("there is no control call {path}"))
        })
    }
}

/// The parameter of `path` under `pattern` (empty where the pattern has none); `None`: no match.
fn matches<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    match pattern.strip_suffix("{}") {
        None => (pattern == path).then_some(""),
        Some(prefix) => path.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
    }
}

fn pairs(query: &str) -> HashMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (percent_decode(name), percent_decode(value)))
        .collect()
}

/// Decodes `%XX`; anything that is not UTF-8 after that becomes the replacement character.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
        match (byte, hex(tail.first()), hex(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (pattern, path, expected) in [
            ("/v1/status", "/v1/status", Some("")),
            ("/v1/status", "/v1/statu", None),
            ("/v1/bans/{}", "/v1/bans/192.0.2.0%2F24", Some("192.0.2.0%2F24")),
            ("/v1/bans/{}", "/v1/bans/", None),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        assert_eq!(percent_decode("192.0.2.0%2F24%"), "192.0.2.0/24%");
        assert_eq!(percent_decode("%2"), "%2");
    }

    #[tokio::test]
    async fn calls() {
        let mut api = Api::default();
        api.on(Method::GET, "/v1/echo/{}", |r| async move { Ok((r.parameter, r.query.get("q").cloned())) });
        let call = |method, path| api.call(method, path, "q=a%20b", Bytes::new());
        assert_eq!(call(&Method::GET, "/v1/echo/x").await, Ok(serde_json::json!(["x", "a b"])));
        let status = |r: Result<Value, ApiError>| r.err().map(|e| e.status.as_u16());
        assert_eq!(status(call(&Method::POST, "/v1/echo/x").await), Some(405));
        assert_eq!(status(call(&Method::GET, "/v1/none").await), Some(404));
    }
}
