//! Persistent collections: IP, GLOBAL, SESSION, USER, RESOURCE.
//!
//! A store keeps named variables by (collection, web application, key). The engine reads a collection once, at
//! `initcol`, and writes every change through at once, so that counters of concurrent transactions add up.

mod memory;

pub use memory::MemoryStore;

/// Longest collection key kept, bytes; longer ones are cut.
pub const KEY_MAX_BYTES: usize = 512;

/// A persistent collection's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum CollectionKind {
    Global,
    Ip,
    Resource,
    Session,
    User,
}

/// Which record of which collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CollectionId<'a> {
    /// The collection.
    pub kind: CollectionKind,
    /// WEBAPPID: records of different applications never meet.
    pub web_app: &'a [u8],
    /// The key given to `initcol`.
    pub key: &'a [u8],
}

/// A change to one variable of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Sets the value.
    Set(&'a [u8]),
    /// Adds to the number there (0 if there is none).
    Add(i64),
    /// Removes the variable.
    Remove,
    /// Lets the variable go this many seconds from now.
    ExpireAfter(u64),
    /// Takes `amount` off for each `period` seconds since the last such change, not below zero.
    Deprecate {
        /// How much a period.
        amount: u64,
        /// Seconds; at least 1.
        period: u64,
    },
}

/// Where persistent collections live. Implementations bound what they keep and never block on a network.
pub trait CollectionStore: Send + Sync {
    /// Opens the record, making it if there is none, and hands its variables to `sink`, CREATE_TIME, IS_NEW, KEY,
    /// LAST_UPDATE_TIME, TIMEOUT, UPDATE_COUNTER and UPDATE_RATE included. `timeout_seconds` is how long a record
    /// lives after its last change.
    fn open(
        &self,
        id: CollectionId<'_>,
        timeout_seconds: u64,
        unix_nanos: u64,
        sink: &mut dyn FnMut(&[u8], &[u8]),
    );

    /// Applies a change to a variable (name in lower case) and hands its new value to `sink` if it still has one.
    /// A store at its bound may lose the change.
    fn change(
        &self,
        id: CollectionId<'_>,
        name: &[u8],
        change: Change<'_>,
        unix_nanos: u64,
        sink: &mut dyn FnMut(&[u8]),
    );
}
