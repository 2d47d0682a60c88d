//! The policy trie: small, looked up only when the guard bitmap says that something may match.

/// Prefixes the trie can hold, both families together.
pub const POLICY_CAPACITY: u32 = 8192;

/// Flag: a source here is never dropped.
pub const ALLOW: u32 = 1;

/// What the longest matching prefix says about a source. The daemon gives each prefix what it inherits from shorter
/// ones, so that one look-up is the whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Policy {
    /// [`ALLOW`].
    pub flags: u32,
    /// Class of limits for the source.
    pub class: u32,
}

const _: () = assert!(size_of::<Policy>() == 8);
