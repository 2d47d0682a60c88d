//! One call to the daemon over its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;

use super::exit;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Why a call brought no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens on the socket.
    #[error(
        "no gateway answers on {socket} ({source}). Is it running, and is --control its [control] socket?"
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The daemon answered with a refusal.
    #[error("{0}")]
    Refused(String),
    /// The conversation broke off.
    #[error("the gateway on {socket} broke off: {reason}")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The command line asks for something that can't be.
    #[error("{0}")]
    Usage(String),
}

impl CallError {
    /// The exit code that says this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => exit::UNREACHABLE,
            Self::Refused(_) => exit::REFUSED,
            Self::Usage(_) => 2,
        }
    }
}

/// The daemon's control socket.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// The daemon that listens on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Reads.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(&Method::GET, path, &Value::Null)
    }

    /// Changes.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, CallError> {
        let body = serde_json::to_value(body).map_err(|e| self.broken(&e))?;
        self.call(&Method::POST, path, &body)
    }

    fn broken(&self, reason: &dyn std::fmt::Display) -> CallError {
        CallError::Broken { socket: self.socket.clone(), reason: reason.to_string() }
    }

    fn call(&self, method: &Method, path: &str, body: &Value) -> Result<Value, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| CallError::Unreachable { socket: self.socket.clone(), source })?;
        runtime.block_on(async {
            tokio::time::timeout(TIMEOUT, self.exchange(method, path, body))
                .await
                .unwrap_or_else(|_| Err(self.broken(&"no answer within two minutes")))
        })
    }

    async fn exchange(&self, method: &Method, path: &str, body: &Value) -> Result<Value, CallError> {
        let stream = tokio::net::UnixStream::connect(&self.socket)
            .await
            .map_err(|source| CallError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(&e))?;
        tokio::spawn(connection);
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gateway")
            .body(Full::new(body))
            .map_err(|e| self.broken(&e))?;
        let response = sender.send_request(request).await.map_err(|e| self.broken(&e))?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|e| self.broken(&e))?
            .to_bytes();
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| self.broken(&e))?;
        if status == StatusCode::OK {
            return Ok(value);
        }
        let message = value.get("error").and_then(Value::as_str).unwrap_or("the gateway gave no reason");
        Err(CallError::Refused(message.to_owned()))
    }
}

/// Writes `text` so that it can stand as one path segment.
pub fn encode_segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(byte as char);
        } else {
            use std::fmt::Write;
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        assert_eq!(encode_segment("2001:db8::/32"), "2001:db8::%2F32");
    }

    #[test]
    fn nobody_there_is_said_with_the_socket() {
        let error = Control::new(Path::new("/nonexistent/control.sock")).get("/v1/status").expect_err("none");
        assert_eq!(error.exit_code(), exit::UNREACHABLE);
        assert!(error.to_string().starts_with("no gateway answers on /nonexistent/control.sock"), "{error}");
    }
}
