//! What follows a switch of protocols: bytes both ways.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::http::server::{Phase, past};
use crate::pipeline::Finishing;
use crate::upstream::Upgraded;

/// Both ends of a connection that speaks another protocol.
#[derive(Debug)]
pub(in crate::http) struct Tunnel<C> {
    pub(in crate::http) client: C,
    pub(in crate::http) upgraded: Upgraded,
    pub(in crate::http) finishing: Finishing,
    pub(in crate::http) phase: watch::Receiver<Phase>,
}

/// Buffer of each direction.
const BUFFER: usize = 16 << 10;

impl<C: AsyncRead + AsyncWrite + Unpin> Tunnel<C> {
    /// Carries bytes until one side closes. Draining leaves it alone: the deadline of the drain cuts it off.
    pub(in crate::http) async fn run(mut self) {
        if !self.upgraded.read.is_empty() && self.client.write_all(&self.upgraded.read).await.is_err() {
            return;
        }
        let copied = tokio::select! {
            copied = tokio::io::copy_bidirectional_with_sizes(
                &mut self.client, &mut self.upgraded.io, BUFFER, BUFFER,
            ) => copied,
            () = past(&mut self.phase, Phase::Drain) => return,
        };
        if let Ok((_, to_client)) = copied {
            self.finishing.sent(to_client + self.upgraded.read.len() as u64);
            self.finishing.complete();
        }
    }
}
