//! What can go wrong with the kernel side, each with what to do about it.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::target::Target;

/// A failure to set up or reach the kernel side.
#[derive(Debug, Error)]
pub enum KernelError {
    /// Not enough privileges.
    #[error("{what}: not permitted; run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Privileges {
        /// What was tried.
        what: String,
    },
    /// The kernel has no BPF, or not the part that is needed.
    #[error(
        "{what}: this kernel does not support it ({error}); Linux 5.15 or later with CONFIG_BPF_SYSCALL and CONFIG_BPF_JIT is needed"
    )]
    Unsupported {
        /// What was tried.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Not enough memory for the tables.
    #[error("{what}: not enough memory; lower the capacities of the kernel tables")]
    Memory {
        /// What was tried.
        what: String,
    },
    /// No such interface.
    #[error("interface {name:?} does not exist; `ip link` lists those that do")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// Another XDP program is attached.
    #[error(
        "interface {name} already has an XDP program that is not ours; detach it with `ip link set dev {name} xdp off`"
    )]
    InterfaceBusy {
        /// The interface.
        name: String,
    },
    /// No mode of attachment worked.
    #[error("cannot attach to {name}: {tried}")]
    Attach {
        /// The interface.
        name: String,
        /// Each mode with its error.
        tried: String,
    },
    /// The pin folder is not on a BPF file system and none can be mounted there.
    #[error("{path} is not on a BPF file system; choose a folder under /sys/fs/bpf as `pin_root`")]
    NotBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// Another daemon holds the maps.
    #[error("another gateway already holds {path}; stop it, or give this one another `pin_root`")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The program or its maps would not load.
    #[error("cannot load the XDP program: {message}")]
    Load {
        /// What the loader or the verifier said.
        message: String,
    },
    /// What stands in the tables of an earlier daemon does not fit into the new ones.
    #[error(
        "{what} in force do not fit into tables of the new capacity (no room after {entries} entries); raise it in \
         [kernel.capacity], or lift bans first. The tables before stay in force"
    )]
    CarryOver {
        /// What does not fit.
        what: &'static str,
        /// Entries that found room.
        entries: u64,
    },
    /// A value outside its bounds.
    #[error("{what} is {value}; it must be {bounds}")]
    OutOfBounds {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The bounds.
        bounds: String,
    },
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl KernelError {
    /// Sorts a failed system call by what it means for the operator.
    pub(super) fn from_io(what: impl Into<String>, error: io::Error) -> Self {
        let what = what.into();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privileges { what },
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => Self::Unsupported { what, error },
            Some(libc::ENOMEM) => Self::Memory { what },
            _ => Self::System { what, error },
        }
    }
}

/// Why a ban was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BanError {
    /// It would cover an address that must stay reachable.
    #[error("{target} is not banned: it touches {guard}, which is {kind}")]
    Guarded {
        /// What was to be banned.
        target: Target,
        /// What it touches.
        guard: Target,
        /// Why that is guarded.
        kind: &'static str,
    },
    /// It covers more of the internet than any ban should.
    #[error("{target} is not banned: a ban covers at most a /{shortest}")]
    TooWide {
        /// What was to be banned.
        target: Target,
        /// Shortest prefix length allowed.
        shortest: u32,
    },
    /// No room in the table.
    #[error(
        "{target} is not banned: the table is full ({capacity} entries); raise its capacity or lift other bans"
    )]
    Full {
        /// What was to be banned.
        target: Target,
        /// Entries of the table.
        capacity: u64,
    },
}
