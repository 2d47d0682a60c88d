//! `[control]`: the Unix socket of the command line, and the listener for health and metrics.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::Problems;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    socket: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
}

/// Where operators and monitoring reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The control socket, mode 0600; default `/run/gateway/control.sock`.
    pub socket: PathBuf,
    /// `/healthz`, `/readyz` and `/metrics` over plain HTTP; default `127.0.0.1:9180`, none with `listen = "off"`.
    pub listen: Option<SocketAddr>,
}

/// Where the control socket is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/gateway/control.sock";

pub(super) fn check(raw: Raw, problems: &mut Problems<'_>) -> Control {
    let socket = raw.socket.map_or_else(
        || DEFAULT_SOCKET.into(),
        |s| {
            // sun_path of unix(7) holds 108 bytes with the closing NUL.
            if s.get_ref().is_empty() || s.get_ref().len() > 107 || !s.get_ref().starts_with('/') {
                problems.at(s.span(), "`socket` must be an absolute path of at most 107 bytes.");
            }
            PathBuf::from(s.into_inner())
        },
    );
    let listen = match raw.listen {
        None => Some(SocketAddr::from(([127, 0, 0, 1], 9180))),
        Some(s) if s.get_ref() == "off" => None,
        Some(s) => match s.get_ref().parse() {
            Ok(addr) => Some(addr),
            Err(_) => {
                problems
                    .at(s.span(), "`listen` must be an address and port such as 127.0.0.1:9180, or \"off\".");
                None
            }
        },
    };
    Control { socket, listen }
}
