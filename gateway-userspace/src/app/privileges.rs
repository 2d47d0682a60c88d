//! Capabilities: what the daemon keeps, and that it drops the rest before it listens.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

/// What the daemon may keep: BPF maps and programs, XDP attachment, low ports.
/// `CAP_PERFMON` belongs to BPF: without it the verifier refuses pointer arithmetic that our programs need.
const KEEP: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_PERFMON,
];

/// Drops every capability but those above, from this thread and all that it starts.
/// Call it before the first thread is started.
///
/// # Errors
/// When the kernel refuses the change.
pub fn drop_all_but_needed() -> io::Result<()> {
    let other = |e: caps::errors::CapsError| io::Error::other(e.to_string());
    let keep: CapsHashSet = KEEP.into_iter().collect();
    let permitted = caps::read(None, CapSet::Permitted).map_err(other)?;
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(other)? {
        for capability in caps::read(None, CapSet::Bounding).map_err(other)?.difference(&keep) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(other)?;
        }
    }
    caps::clear(None, CapSet::Inheritable).map_err(other)?;
    let kept: CapsHashSet = permitted.intersection(&keep).copied().collect();
    caps::set(None, CapSet::Effective, &kept).map_err(other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(other)
}

/// Runs `start` while a program that it starts from this thread keeps the capabilities; without this a program run as
/// another user than root has none (capabilities(7)).
pub fn while_inheritable<T>(start: impl FnOnce() -> T) -> T {
    let set = || -> Result<(), caps::errors::CapsError> {
        let kept = caps::read(None, CapSet::Permitted)?;
        caps::set(None, CapSet::Inheritable, &kept)?;
        caps::set(None, CapSet::Ambient, &kept)
    };
    if let Err(e) = set() {
        tracing::debug!("capabilities are not passed on: {e}");
    }
    let started = start();
    let _ = caps::clear(None, CapSet::Ambient);
    let _ = caps::clear(None, CapSet::Inheritable);
    started
}

/// Whether this process may load and attach XDP programs.
pub fn may_use_bpf() -> bool {
    [Capability::CAP_BPF, Capability::CAP_NET_ADMIN]
        .iter()
        .all(|c| caps::has_cap(None, CapSet::Effective, *c).unwrap_or(false))
}
