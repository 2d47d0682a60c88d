//! Why the gateway does not start.

use std::io;
use std::net::SocketAddr;

use crate::admin::SocketError;
use crate::cli::exit;
use crate::config::ConfigError;
use crate::http::StartError;
use crate::kernel::KernelError;
use crate::limits::ClearanceError;
use crate::listen::{BindError, CertificateError, TlsError};
use crate::pipeline::SiteError;
use crate::rules::RulesError;

/// What keeps the gateway from starting; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The rule files.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A certificate or key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The TLS settings.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS settings of an upstream or a route.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The secret of challenges.
    #[error(transparent)]
    Clearance(#[from] ClearanceError),
    /// The log.
    #[error("the log can't be started: {0}")]
    Log(String),
    /// The access log.
    #[error("the access log can't be opened: {0}. Check [log] access and the folder's permissions.")]
    AccessLog(io::Error),
    /// The audit log.
    #[error("the audit log can't be opened: {0}")]
    AuditLog(io::Error),
    /// A listener's port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The gateway that runs doesn't hand over.
    #[error(
        "the running gateway doesn't hand over: {0}. It serves on; stop it and start this one without --take-over."
    )]
    TakeOver(io::Error),
    /// The control listener.
    #[error(
        "the control listener can't listen on {address}: {source}. Set [control] listen to a free address, or to \"off\"."
    )]
    ControlListen {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The XDP side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No right to use BPF.
    #[error(
        "[kernel] interfaces needs the capabilities CAP_BPF and CAP_NET_ADMIN: run as root, or with the systemd unit \
         in packaging/, or leave the interfaces out to run without the kernel side."
    )]
    NoBpf,
    /// Capabilities can't be dropped.
    #[error("capabilities can't be dropped: {0}")]
    Privileges(io::Error),
    /// Threads, signals, the event loop.
    #[error(
        "the runtime can't be started: {0}. Check the limits on threads and descriptors (ulimit -u, -n)."
    )]
    Runtime(io::Error),
    /// The workers.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The decisions' task or its store.
    #[error("the bans can't be started: {0}")]
    Bans(String),
}

impl AppError {
    /// The exit code that says this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Rules(_)
            | Self::Certificate(_)
            | Self::Tls(_)
            | Self::Site(_)
            | Self::Clearance(_) => exit::CONFIG,
            _ => exit::SYSTEM,
        }
    }
}
