//! `cargo xtask bench NAME`: figures beside a peer's or a baseline's, in the same run, alternating.

pub mod report;
