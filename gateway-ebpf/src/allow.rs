//! The allowlist: asked only when something would drop the packet.

use aya_ebpf::btf_maps::lpm_trie::Key;
use gateway_common::{
    marks::{guard_v4, guard_v6},
    policy::{ALLOW, Policy},
};

use crate::{
    maps::{GUARD, POLICY},
    scene::Scene,
};

/// True when the source may not be dropped.
#[inline(always)]
pub fn allowed(scene: &Scene) -> bool {
    match policy(scene) {
        Some(policy) => policy.flags & ALLOW != 0,
        None => false,
    }
}

/// The policy for the source, if there is one.
#[inline(always)]
pub fn policy(scene: &Scene) -> Option<&'static Policy> {
    let bit = if scene.is_v4 { guard_v4(scene.source.low as u32) } else { guard_v6(scene.source.high) };
    let word = GUARD.get(bit / 64)?;
    if word >> (bit % 64) & 1 == 0 {
        return None;
    }
    search(scene)
}

#[inline(always)]
fn search(scene: &Scene) -> Option<&'static Policy> {
    let mut address = [0u8; 16];
    // SAFETY: sixteen bytes of the array on the stack, which is aligned to 8 below.
    let key = {
        let high = scene.source.high.to_be_bytes();
        let low = scene.source.low.to_be_bytes();
        address[..8].copy_from_slice(&high);
        address[8..].copy_from_slice(&low);
        Key::new(128, address)
    };
    POLICY.get(&key)
}
