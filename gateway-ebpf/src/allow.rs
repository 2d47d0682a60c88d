//! The allowlist: asked only when something would drop the packet.

use aya_ebpf::btf_maps::lpm_trie::Key;
use gateway_common::{
    marks::{guard_v4, guard_v6},
    policy::{ALLOW, Policy},
    stats::Scene,
};

use crate::maps::{GUARD, POLICY};

/// True when the source may not be dropped.
#[inline(always)]
pub fn allowed(scene: &Scene) -> bool {
    policy(scene).is_some_and(|policy| policy.flags & ALLOW != 0)
}

/// True when some policy prefix may match the source.
#[inline(always)]
pub fn near(scene: &Scene) -> bool {
    let source = scene.source;
    let bit = match source.as_v4() {
        Some(v4) => guard_v4(v4),
        None => guard_v6(source.high),
    };
    GUARD.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
}

/// The policy for the source, if there is one.
#[inline(always)]
pub fn policy(scene: &Scene) -> Option<&'static Policy> {
    if !near(scene) {
        return None;
    }
    let source = scene.source;
    // The bytes in network order, as two words: no copy on the stack for LLVM to make a call of.
    let words = [source.high.to_be(), source.low.to_be()];
    // SAFETY: sixteen bytes either way.
    let address: [u8; 16] = unsafe { core::mem::transmute(words) };
    POLICY.get(&Key::new(128, address))
}
