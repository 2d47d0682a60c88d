//! The allowlist: asked only when something would drop the packet.

use aya_ebpf::btf_maps::lpm_trie::Key;
use gateway_common::{
    address::Wide,
    marks::{guard_v4, guard_v6},
    policy::{ALLOW, Policy},
};

use crate::maps::{self, POLICY};

/// Where a packet comes from.
#[derive(Clone, Copy)]
pub struct Source {
    /// Its IPv4 address, if that is what it has.
    pub v4: Option<u32>,
    /// Its IPv6 address otherwise.
    v6: Wide,
}

impl Source {
    /// Of a packet that was not parsed so far.
    pub const NONE: Self = Self::v6(Wide { high: 0, low: 0 });

    /// An IPv4 source.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self { v4: Some(address), v6: Wide { high: 0, low: 0 } }
    }

    /// An IPv6 source.
    #[inline(always)]
    pub const fn v6(wide: Wide) -> Self {
        Self { v4: None, v6: wide }
    }

    /// As the scene has it.
    #[inline(always)]
    pub const fn of(wide: Wide) -> Self {
        Self { v4: wide.as_v4(), v6: wide }
    }

    /// The address of either family.
    #[inline(always)]
    pub const fn wide(&self) -> Wide {
        match self.v4 {
            Some(v4) => Wide::mapped(v4),
            None => self.v6,
        }
    }
}

/// True when the source may not be dropped.
#[inline(always)]
pub fn allowed(source: Source) -> bool {
    policy(source).is_some_and(|policy| policy.flags & ALLOW != 0)
}

/// True when some policy prefix may match the source.
#[inline(always)]
pub fn near(source: Source) -> bool {
    let bit = match source.v4 {
        Some(v4) => guard_v4(v4),
        None => guard_v6(source.v6.high),
    };
    maps::guard(bit / 64) >> (bit % 64) & 1 != 0
}

/// The policy for the source, if there is one.
#[inline(always)]
pub fn policy(source: Source) -> Option<&'static Policy> {
    if !near(source) {
        return None;
    }
    // The bytes in network order, as two words: no copy on the stack for LLVM to make a call of.
    let wide = source.wide();
    let words = [wide.high.to_be(), wide.low.to_be()];
    // SAFETY: sixteen bytes either way.
    let address: [u8; 16] = unsafe { core::mem::transmute(words) };
    POLICY.get(&Key::new(128, address))
}
