//! Body processors: bytes in, names and values out. Pure, linear, bounded.

pub mod cookies;
pub mod urlencoded;
