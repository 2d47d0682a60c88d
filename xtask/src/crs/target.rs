//! Where the requests of a suite go: the engine in this process, or a daemon.

use anyhow::Result;

/// What came of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The response's status; none if the connection failed.
    pub status: Option<u16>,
    /// The response as text, head and body.
    pub response: String,
    /// Why the server refused the request before any rule ran, if it did.
    pub refused: Option<String>,
    /// The log lines of the request.
    pub log: Vec<String>,
}

/// Takes requests, one after the other.
pub trait Target {
    /// Sends `raw` and waits until its log is complete.
    ///
    /// # Errors
    /// What keeps the test from being run; the test counts as failed.
    fn send(&mut self, raw: &[u8]) -> Result<Outcome>;
}
